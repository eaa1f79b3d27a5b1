#include <sqlite3.h>

#include <utility>

#include "tests/bench/ingest/blobs.h"
#include "tests/bench/lib/cluster.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

// A SQLite file with the store's settings and one table of blobs. One thread.
class BlobFile final : public Blobs {
 public:
  explicit BlobFile(std::string path) : path_(std::move(path)) {
    if (sqlite3_open_v2(path_.c_str(), &db_,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        nullptr) != SQLITE_OK) {
      Fail("the ceiling's file cannot be opened");
    }
    Run("PRAGMA journal_mode=WAL");
    Run("PRAGMA journal_size_limit=67108864");
    Run("PRAGMA synchronous=FULL");
    Run("PRAGMA cache_size=-16000");
    Run("CREATE TABLE batches (log INTEGER, first INTEGER, last INTEGER, payload BLOB)");
    insert_ = Prepare("INSERT INTO batches VALUES (?1, ?2, ?3, ?4)");
    begin_ = Prepare("BEGIN IMMEDIATE");
    commit_ = Prepare("COMMIT");
  }
  ~BlobFile() override { Close(); }
  BlobFile(const BlobFile&) = delete;
  BlobFile& operator=(const BlobFile&) = delete;

  void Begin() override { Step(begin_); }
  void Commit() override { Step(commit_); }
  void Insert(int64_t log, const v1::Records& records) override {
    sqlite3_bind_int64(insert_, 1, log);
    sqlite3_bind_int64(insert_, 2, static_cast<int64_t>(records.first_sequence()));
    sqlite3_bind_int64(insert_, 3, static_cast<int64_t>(records.last_sequence()));
    sqlite3_bind_blob64(insert_, 4, records.batch().data(), records.batch().size(), SQLITE_STATIC);
    Step(insert_);
  }

  std::map<int64_t, uint64_t> Verify(Feed& feed) override {
    sqlite3_stmt* const select = Prepare("SELECT log, first, payload FROM batches ORDER BY rowid");
    std::map<int64_t, uint64_t> ends;
    while (sqlite3_step(select) == SQLITE_ROW) {
      const std::string_view payload(static_cast<const char*>(sqlite3_column_blob(select, 2)),
                                     static_cast<size_t>(sqlite3_column_bytes(select, 2)));
      CheckBlob(feed, static_cast<uint64_t>(sqlite3_column_int64(select, 1)), payload,
                ends[sqlite3_column_int64(select, 0)]);
    }
    sqlite3_finalize(select);
    return ends;
  }
  uint64_t Bytes() override {
    Close();
    return DatabaseBytes(path_);
  }

 private:
  void Close() {
    for (sqlite3_stmt* statement : {insert_, begin_, commit_}) sqlite3_finalize(statement);
    insert_ = begin_ = commit_ = nullptr;
    sqlite3_close_v2(std::exchange(db_, nullptr));
  }
  void Run(const std::string& sql) {
    if (sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) Fail(sql);
  }
  sqlite3_stmt* Prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) Fail(sql);
    return statement;
  }
  void Step(sqlite3_stmt* statement) {
    if (sqlite3_step(statement) != SQLITE_DONE) Fail(sqlite3_errmsg(db_));
    sqlite3_reset(statement);
  }

  const std::string path_;
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
};

}  // namespace

void CheckBlob(Feed& feed, uint64_t first, std::string_view payload, uint64_t& last) {
  const v1::Records& sent = feed.Batch(last / feed.batch()).records();
  if (first != last + 1 || payload != sent.batch())
    Fail(fmt::format("the ceiling's batch after {} is not as sent", last));
  last = sent.last_sequence();
}

std::unique_ptr<Blobs> MakeBlobFile(const std::string& path) {
  return std::make_unique<BlobFile>(path);
}

}  // namespace muster::bench
