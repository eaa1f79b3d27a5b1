#include <libpq-fe.h>

#include "tests/bench/ingest/blobs.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

// The head of a COPY in binary form, and its end.
constexpr std::string_view kHead("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
constexpr std::string_view kEnd("\377\377", 2);

void Append(std::string& to, uint64_t number, int bytes) {
  for (int i = bytes; i-- > 0;) to += static_cast<char>(number >> (8 * i) & 0xff);
}

class BlobCopy final : public Blobs {
 public:
  explicit BlobCopy(const std::string& dsn) : connection_(PQconnectdb(dsn.c_str())) {
    Run("CREATE TABLE batches (number bigint GENERATED ALWAYS AS IDENTITY, log bigint, first "
        "bigint, "
        "last bigint, payload bytea)");
  }
  ~BlobCopy() override { PQfinish(connection_); }
  BlobCopy(const BlobCopy&) = delete;
  BlobCopy& operator=(const BlobCopy&) = delete;

  void Begin() override {
    Run("BEGIN");
    Run("COPY batches (log, first, last, payload) FROM STDIN (FORMAT binary)", PGRES_COPY_IN);
    rows_ = kHead;
  }
  void Insert(int64_t log, const v1::Records& records) override {
    Append(rows_, 4, 2);
    for (const uint64_t number :
         {static_cast<uint64_t>(log), records.first_sequence(), records.last_sequence()}) {
      Append(rows_, 8, 4);
      Append(rows_, number, 8);
    }
    Append(rows_, records.batch().size(), 4);
    rows_ += records.batch();
  }
  void Commit() override {
    rows_ += kEnd;
    if (PQputCopyData(connection_, rows_.data(), static_cast<int>(rows_.size())) != 1 ||
        PQputCopyEnd(connection_, nullptr) != 1)
      Fail(PQerrorMessage(connection_));
    while (PGresult* result = PQgetResult(connection_)) Take(result, PGRES_COMMAND_OK);
    Run("COMMIT");
  }

  std::map<int64_t, uint64_t> Verify(Feed& feed) override {
    Run("BEGIN");
    Run("DECLARE rows BINARY CURSOR FOR SELECT log, first, payload FROM batches ORDER BY number");
    std::map<int64_t, uint64_t> ends;
    int rows = 0;
    do {
      PGresult* const page = PQexec(connection_, "FETCH 1000 FROM rows");
      rows = PQntuples(page);
      for (int i = 0; i < rows; ++i) {
        const std::string_view payload(PQgetvalue(page, i, 2),
                                       static_cast<size_t>(PQgetlength(page, i, 2)));
        CheckBlob(feed, Number(PQgetvalue(page, i, 1)), payload,
                  ends[static_cast<int64_t>(Number(PQgetvalue(page, i, 0)))]);
      }
      Take(page, PGRES_TUPLES_OK);
    } while (rows > 0);
    Run("COMMIT");
    return ends;
  }

  uint64_t Bytes() override {
    PGresult* const size = PQexec(connection_, "SELECT pg_database_size(current_database())");
    const uint64_t bytes = std::strtoull(PQgetvalue(size, 0, 0), nullptr, 10);
    Take(size, PGRES_TUPLES_OK);
    return bytes;
  }

 private:
  static uint64_t Number(const char* from) {
    uint64_t number = 0;
    for (int i = 0; i < 8; ++i) number = number << 8 | static_cast<unsigned char>(from[i]);
    return number;
  }
  void Run(const char* sql, ExecStatusType wanted = PGRES_COMMAND_OK) {
    Take(PQexec(connection_, sql), wanted);
  }
  void Take(PGresult* result, ExecStatusType wanted) {
    if (PQresultStatus(result) != wanted) Fail(PQerrorMessage(connection_));
    PQclear(result);
  }

  PGconn* const connection_;
  std::string rows_;
};

}  // namespace

std::unique_ptr<Blobs> MakeBlobCopy(const std::string& dsn) {
  return std::make_unique<BlobCopy>(dsn);
}

}  // namespace muster::bench
