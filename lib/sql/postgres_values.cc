#include "lib/sql/postgres_values.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

namespace muster::sql {
namespace {

// As in pg_type.
enum Type : Oid {
  kBool = 16,
  kBytea = 17,
  kName = 19,
  kInt8 = 20,
  kInt2 = 21,
  kInt4 = 23,
  kText = 25,
  kOid = 26,
  kUnknown = 705,
  kFloat4 = 700,
  kFloat8 = 701,
  kVarchar = 1043,
  kNumeric = 1700,
  kByteaArray = 1001,
  kTextArray = 1009,
  kInt8Array = 1016,
  kFloat8Array = 1022,
};

constexpr int kBinary = 1;

template <typename Number>
Number ReadBigEndian(const char* from) {
  Number number = 0;
  for (size_t i = 0; i < sizeof number; ++i)
    number = static_cast<Number>((number << 8) | static_cast<unsigned char>(from[i]));
  return number;
}

template <typename Number>
void AppendBigEndian(std::string& to, Number number) {
  char bytes[sizeof number];
  for (size_t i = sizeof number; i-- > 0; number = static_cast<Number>(number >> 8))
    bytes[i] = static_cast<char>(number & 0xff);
  to.append(bytes, sizeof bytes);
}

void AppendNumber(std::string& to, int64_t value) {
  AppendBigEndian(to, static_cast<uint64_t>(value));
}
void AppendNumber(std::string& to, double value) {
  AppendBigEndian(to, std::bit_cast<uint64_t>(value));
}

Status CheckText(std::string_view text) {
  if (text.find('\0') == std::string_view::npos) return OkStatus();
  return InvalidArgument("a text with a zero byte in it cannot be stored");
}

// Whether the text uses $1 to $N, each at least once, outside of quotes.
Status CheckNumbers(std::string_view sql, size_t count) {
  std::vector<bool> used(count, false);
  bool quoted = false;
  bool beyond = false;
  for (size_t i = 0; (i = sql.find_first_of("'$", i)) != std::string_view::npos; ++i) {
    if (sql[i] == '\'') quoted = !quoted;
    if (sql[i] != '$' || quoted) continue;
    size_t number = 0;
    std::from_chars(sql.data() + i + 1, sql.data() + sql.size(), number);
    if (number > count) beyond = true;
    if (number > 0 && number <= count) used[number - 1] = true;
  }
  if (!beyond && std::find(used.begin(), used.end(), false) == used.end()) return OkStatus();
  return Internal("{} parameters given, the text wants others: {}", count, sql.substr(0, 80));
}

Oid ArrayOf(Oid type) {
  switch (type) {
    case kInt8: return kInt8Array;
    case kFloat8: return kFloat8Array;
    case kBytea: return kByteaArray;
    default: return kTextArray;
  }
}

Oid TypeOf(const Parameter& parameter) {
  struct Namer {
    Oid operator()(Null) const { return 0; }
    Oid operator()(int64_t) const { return kInt8; }
    Oid operator()(double) const { return kFloat8; }
    Oid operator()(std::string_view) const { return kText; }
    Oid operator()(Bytes) const { return kBytea; }
  };
  return std::visit(Namer{}, parameter);
}

size_t RowsOf(const Table& table) { return table.values.size() / table.columns; }

const Parameter& At(const Table& table, size_t row, size_t column) {
  return table.values[row * table.columns + column];
}

// That of its values that are not null; 0 if there is none.
Oid ColumnType(const Table& table, size_t column) {
  for (size_t row = 0; row < RowsOf(table); ++row) {
    if (const Oid type = TypeOf(At(table, row, column)); type != 0) return type;
  }
  return 0;
}

// An element of an array: its length, then its bytes; a null has the length -1.
struct ElementWriter {
  std::string& to;
  void operator()(Null) const { AppendBigEndian(to, uint32_t{0xffffffff}); }
  void operator()(int64_t value) const { Number(value); }
  void operator()(double value) const { Number(value); }
  void operator()(std::string_view value) const { Piece(value); }
  void operator()(Bytes value) const { Piece(value.view); }
  template <typename Value>
  void Number(Value value) const {
    AppendBigEndian(to, uint32_t{8});
    AppendNumber(to, value);
  }
  void Piece(std::string_view bytes) const {
    AppendBigEndian(to, static_cast<uint32_t>(bytes.size()));
    to.append(bytes);
  }
};

StatusOr<std::string> EncodeColumn(const Table& table, size_t column, Oid type) {
  std::string array;
  for (const size_t word : {size_t{1}, size_t{1}, size_t{type}, RowsOf(table), size_t{1}})
    AppendBigEndian(array, static_cast<uint32_t>(word));  // dimensions, nulls, type, length, from 1
  for (size_t row = 0; row < RowsOf(table); ++row) {
    const Parameter& value = At(table, row, column);
    if (const Oid own = TypeOf(value); own != 0 && own != type)
      return Internal("column {} of many rows holds values of two types", column + 1);
    if (const auto* text = std::get_if<std::string_view>(&value))
      MUSTER_RETURN_IF_ERROR(CheckText(*text));
    std::visit(ElementWriter{array}, value);
  }
  return array;
}

// number = number * 10,000 + digit; false if it does not fit.
bool Shift(int64_t& number, int64_t digit) {
  return !__builtin_mul_overflow(number, int64_t{10'000}, &number) &&
         !__builtin_add_overflow(number, digit, &number);
}

// Digits to the base of 10,000, the first of them worth that to the power of the weight.
Row::Cell ReadNumeric(const char* from) {
  const auto digits = ReadBigEndian<uint16_t>(from);
  const auto weight = static_cast<int16_t>(ReadBigEndian<uint16_t>(from + 2));
  const bool negative = ReadBigEndian<uint16_t>(from + 4) == 0x4000;
  bool whole = ReadBigEndian<uint16_t>(from + 6) == 0;
  int64_t number = 0;
  double real = 0;
  for (int i = 0; i < digits; ++i) {
    const auto digit = ReadBigEndian<uint16_t>(from + 8 + 2 * i);
    whole = whole && Shift(number, digit);
    real += digit * std::pow(10'000.0, weight - i);
  }
  // Zeros at the end are not sent.
  for (int i = digits; whole && i <= weight; ++i) whole = Shift(number, 0);
  if (whole) return negative ? -number : number;
  return negative ? -real : real;
}

StatusOr<Row::Cell> ReadCell(const PGresult* result, int row, int column) {
  if (PQgetisnull(result, row, column) != 0) return Row::Cell(Null{});
  const char* from = PQgetvalue(result, row, column);
  const auto size = static_cast<size_t>(PQgetlength(result, row, column));
  switch (PQftype(result, column)) {
    case kBool: return Row::Cell(int64_t{*from != 0});
    case kInt8: return Row::Cell(static_cast<int64_t>(ReadBigEndian<uint64_t>(from)));
    case kInt4: return Row::Cell(int64_t{static_cast<int32_t>(ReadBigEndian<uint32_t>(from))});
    case kInt2: return Row::Cell(int64_t{static_cast<int16_t>(ReadBigEndian<uint16_t>(from))});
    case kOid: return Row::Cell(int64_t{ReadBigEndian<uint32_t>(from)});
    case kFloat8: return Row::Cell(std::bit_cast<double>(ReadBigEndian<uint64_t>(from)));
    case kFloat4: return Row::Cell(double{std::bit_cast<float>(ReadBigEndian<uint32_t>(from))});
    case kNumeric: return ReadNumeric(from);
    case kBytea:
    case kText:
    case kName:
    case kVarchar:
    case kUnknown: return Row::Cell(std::string(from, size));
    default:
      return Internal("column {} of the answer has a type that is not read here: {}",
                      PQfname(result, column), PQftype(result, column));
  }
}

}  // namespace

PostgresParameters::PostgresParameters(size_t count) : formats_(count, kBinary) {
  types_.reserve(count);
  values_.reserve(count);
  lengths_.reserve(count);
  owned_.reserve(count);
}

void PostgresParameters::AddOwned(Oid type, std::string bytes) {
  owned_.push_back(std::move(bytes));
  types_.push_back(type);
  values_.push_back(owned_.back().data());
  lengths_.push_back(static_cast<int>(owned_.back().size()));
}

Status PostgresParameters::Add(const Parameter& parameter) {
  std::string number;
  if (const auto* whole = std::get_if<int64_t>(&parameter)) AppendNumber(number, *whole);
  if (const auto* real = std::get_if<double>(&parameter)) AppendNumber(number, *real);
  if (!number.empty()) {
    AddOwned(TypeOf(parameter), std::move(number));
    return OkStatus();
  }
  std::string_view bytes;
  if (const auto* text = std::get_if<std::string_view>(&parameter)) {
    MUSTER_RETURN_IF_ERROR(CheckText(*text));
    bytes = *text;
  }
  if (const auto* raw = std::get_if<Bytes>(&parameter)) bytes = raw->view;
  const bool null = std::holds_alternative<Null>(parameter);
  types_.push_back(TypeOf(parameter));
  values_.push_back(null ? nullptr : bytes.data() == nullptr ? "" : bytes.data());
  lengths_.push_back(static_cast<int>(bytes.size()));
  return OkStatus();
}

StatusOr<PostgresParameters> PostgresParameters::Make(std::string_view sql,
                                                      std::span<const Parameter> parameters) {
  MUSTER_RETURN_IF_ERROR(CheckNumbers(sql, parameters.size()));
  PostgresParameters made(parameters.size());
  for (const Parameter& parameter : parameters) MUSTER_RETURN_IF_ERROR(made.Add(parameter));
  return made;
}

StatusOr<PostgresTable> PostgresTable::Make(const Table& table) {
  if (table.columns == 0 || table.values.size() % table.columns != 0)
    return Internal("{} values do not fill rows of {}", table.values.size(), table.columns);
  PostgresParameters arrays(table.columns);
  std::string list;
  std::string places;
  std::string names;
  for (size_t column = 0; column < table.columns; ++column) {
    const char* comma = column == 0 ? "" : ", ";
    const Oid type = ColumnType(table, column);
    // A bare NULL takes the type of the column that it goes into.
    list += fmt::format("{}{} AS column{}", comma,
                        type == 0 ? "NULL" : fmt::format("c{}", column + 1), column + 1);
    if (type == 0) continue;
    MUSTER_ASSIGN_OR_RETURN(std::string array, EncodeColumn(table, column, type));
    arrays.AddOwned(ArrayOf(type), std::move(array));
    const char* next = arrays.count() == 1 ? "" : ", ";
    places += fmt::format("{}${}", next, arrays.count());
    names += fmt::format("{}c{}", next, column + 1);
  }
  if (arrays.count() == 0) return Internal("many rows of nothing but null");
  return PostgresTable{fmt::format("SELECT {} FROM unnest({}) AS u ({})", list, places, names),
                       std::move(arrays)};
}

StatusOr<Rows> ReadPostgresRows(const PGresult* result) {
  Rows rows;
  const int columns = PQnfields(result);
  rows.reserve(static_cast<size_t>(PQntuples(result)));
  for (int row = 0; row < PQntuples(result); ++row) {
    std::vector<Row::Cell> cells;
    cells.reserve(static_cast<size_t>(columns));
    for (int column = 0; column < columns; ++column) {
      MUSTER_ASSIGN_OR_RETURN(Row::Cell cell, ReadCell(result, row, column));
      cells.push_back(std::move(cell));
    }
    rows.emplace_back(std::move(cells));
  }
  return rows;
}

}  // namespace muster::sql
