#include "agent/tasks/backup/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace muster::agent::backup {
namespace {

std::string Text(std::string_view field) { return std::string(field.substr(0, field.find('\0'))); }

// Octal digits; or, with the highest bit set, big-endian bytes.
std::optional<uint64_t> Number(std::string_view field) {
  uint64_t value = 0;
  if ((static_cast<unsigned char>(field[0]) & 0x80) != 0) {
    for (size_t i = 0; i < field.size(); ++i) {
      const uint64_t byte = static_cast<unsigned char>(field[i]) & (i == 0 ? 0x7fU : 0xffU);
      if (value > UINT64_MAX >> 9) return std::nullopt;
      value = value << 8 | byte;
    }
    return value;
  }
  const size_t from = field.find_first_not_of(' ');
  if (from == std::string_view::npos) return 0;
  field.remove_prefix(from);
  field = field.substr(0, field.find_first_of(std::string_view("\0 ", 2)));
  if (field.empty()) return 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value, 8);
  if (error != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return value;
}

bool HasRightSum(std::string_view block) {
  uint64_t sum = 0;
  for (size_t i = 0; i < block.size(); ++i)
    sum += i >= 148 && i < 156 ? uint64_t{' '} : static_cast<unsigned char>(block[i]);
  return Number(block.substr(148, 8)) == sum;
}

}  // namespace

Status TarReader::Take(std::string_view bytes) {
  while (broken_.ok() && !bytes.empty()) {
    if (left_ > 0) {
      const std::string_view piece = bytes.substr(0, left_);
      if (body_ == Body::kFile) sink_.bytes(piece);
      if (body_ == Body::kPax) pax_ += piece;
      left_ -= piece.size();
      bytes.remove_prefix(piece.size());
      if (left_ == 0) EndBody();
    } else if (padding_ > 0) {
      const size_t piece = std::min<uint64_t>(padding_, bytes.size());
      padding_ -= piece;
      bytes.remove_prefix(piece);
    } else {
      const std::string_view piece = bytes.substr(0, kBlock - block_.size());
      block_ += piece;
      bytes.remove_prefix(piece.size());
      if (block_.size() == kBlock) broken_ = TakeHeader();
    }
  }
  return broken_;
}

Status TarReader::Finish() const {
  MUSTER_RETURN_IF_ERROR(broken_);
  if (empty_blocks_ >= 2 && left_ == 0 && padding_ == 0 && block_.empty()) return OkStatus();
  return DataLoss("what restic gave back ends in the middle");
}

Status TarReader::TakeHeader() {
  const std::string block = std::exchange(block_, {});
  if (block.find_first_not_of('\0') == std::string::npos) {
    ++empty_blocks_;
    return OkStatus();
  }
  const std::string_view view = block;
  const std::optional<uint64_t> size = Number(view.substr(124, 12));
  if (empty_blocks_ > 0 || !HasRightSum(view) || !size) {
    return DataLoss("what restic gave back is no tar archive");
  }
  const char type = view[156];
  std::string path = Text(view.substr(0, 100));
  if (const std::string prefix = Text(view.substr(345, 155)); !prefix.empty())
    path = prefix + "/" + path;
  if (!pax_path_.empty() && type != 'x') path = std::exchange(pax_path_, {});
  left_ = has_pax_size_ && type != 'x' ? pax_size_ : *size;
  if (type != 'x') has_pax_size_ = false;
  const bool file = type == '0' || type == '\0';
  // A link has a size in some archives, and never a body.
  if (type >= '1' && type <= '6') left_ = 0;
  if (left_ > UINT64_MAX / 4 || (type == 'x' && left_ > kMostPax)) {
    return DataLoss("an entry of the tar archive is too large");
  }
  padding_ = (kBlock - left_ % kBlock) % kBlock;
  body_ = file ? Body::kFile : type == 'x' ? Body::kPax : Body::kSkipped;
  if (file) sink_.begin(path.starts_with('/') ? path.substr(1) : path, left_);
  if (left_ == 0) EndBody();
  return OkStatus();
}

void TarReader::EndBody() {
  const Body body = std::exchange(body_, Body::kNone);
  if (body == Body::kFile) sink_.end();
  if (body == Body::kPax) broken_ = ReadPax();
}

// "27 path=a/long/path\n": each with its own length in front.
Status TarReader::ReadPax() {
  const std::string pax = std::exchange(pax_, {});
  std::string_view rest = pax;
  while (!rest.empty()) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<size_t>(end - rest.data());
    if (error != std::errc() || length > rest.size() || length < digits + 3 ||
        rest[digits] != ' ' || rest[length - 1] != '\n') {
      return DataLoss("a pax header of the tar archive cannot be read");
    }
    const std::string_view record = rest.substr(digits + 1, length - digits - 2);
    rest.remove_prefix(length);
    if (record.starts_with("path=")) pax_path_ = record.substr(5);
    if (!record.starts_with("size=")) continue;
    const std::string_view size = record.substr(5);
    const auto [last, wrong] = std::from_chars(size.data(), size.data() + size.size(), pax_size_);
    if (wrong != std::errc() || last != size.data() + size.size()) {
      return DataLoss("a pax header of the tar archive cannot be read");
    }
    has_pax_size_ = true;
  }
  return OkStatus();
}

}  // namespace muster::agent::backup
