// Where the ceiling keeps batches: one table of blobs, with the settings of the store. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "muster/v1/agent_link.pb.h"
#include "tests/bench/ingest/feed.h"

namespace muster::bench {

class Blobs {
 public:
  virtual ~Blobs() = default;
  virtual void Begin() = 0;
  virtual void Insert(int64_t log, const v1::Records& records) = 0;
  virtual void Commit() = 0;
  // The last sequence of each log; its batches must follow one another and be the feed's.
  virtual std::map<int64_t, uint64_t> Verify(Feed& feed) = 0;
  // Of the database. Nothing is written afterwards.
  virtual uint64_t Bytes() = 0;
};

// A SQLite file: one prepared statement.
std::unique_ptr<Blobs> MakeBlobFile(const std::string& path);
// A PostgreSQL server: COPY in binary form, and a COMMIT.
std::unique_ptr<Blobs> MakeBlobCopy(const std::string& dsn);

// Fails unless the batch follows the last one of its log as the feed sent it; moves `last` on.
void CheckBlob(Feed& feed, uint64_t first, std::string_view payload, uint64_t& last);

}  // namespace muster::bench
