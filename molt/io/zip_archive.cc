#include "molt/io/zip_archive.h"

#include <algorithm>

#include "molt/base/error.h"

namespace molt::io {
namespace {

constexpr uint64_t kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20, kHeaderSize = 46, kLocalSize = 30;
constexpr uint32_t kEndMagic = 0x06054b50, kEnd64Magic = 0x06064b50, kLocatorMagic = 0x07064b50;
constexpr uint32_t kHeaderMagic = 0x02014b50, kLocalMagic = 0x04034b50;

}  // namespace

// Layouts: APPNOTE.TXT 6.3, sections 4.3.7 (local header), 4.3.12 (central), 4.3.14 to 4.3.16 (ends), 4.5.3 (zip64).
ZipArchive::ZipArchive(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
  const char* data = file_->data();
  const uint64_t size = file_->size();
  const auto damaged = [&](const auto&... what) {
    usage_error(file_->path(), ": not a complete zip file: ", what..., "; it is truncated or damaged, fetch it again");
  };
  // The end record is the last thing in the file but for a comment of at most 64 kB whose length it states.
  uint64_t end = size;
  for (uint64_t comment = 0; comment <= 0xffff && comment + kEndSize <= size; ++comment) {
    const uint64_t at = size - kEndSize - comment;
    if (load_le(data + at, 4) == kEndMagic && load_le(data + at + 20, 2) == comment) {
      end = at;
      break;
    }
  }
  if (end == size) damaged("it has no end record");

  uint64_t count = load_le(data + end + 10, 2), length = load_le(data + end + 12, 4),
           begin = load_le(data + end + 16, 4);
  if (end >= kLocatorSize && load_le(data + end - kLocatorSize, 4) == kLocatorMagic) {
    const uint64_t locator = end - kLocatorSize, end64 = load_le(data + locator + 8, 8);
    if (end64 > locator || locator - end64 < kEnd64Size || load_le(data + end64, 4) != kEnd64Magic) {
      damaged("its zip64 end record is not where it should be");
    }
    count = load_le(data + end64 + 32, 8);
    length = load_le(data + end64 + 40, 8);
    begin = load_le(data + end64 + 48, 8);
  }
  if (begin > end || length > end - begin) damaged("its directory lies outside the file");
  if (count > length / kHeaderSize) damaged("its directory is too small for ", count, " entries");
  uint64_t at = begin;
  for (uint64_t i = 0; i < count; ++i) read_entry(at, begin, begin + length);
}

void ZipArchive::read_entry(uint64_t& at, uint64_t directory_begin, uint64_t directory_end) {
  const char* const data = file_->data();
  const auto damaged = [&](const auto&... what) { usage_error(file_->path(), ": damaged zip file: ", what...); };
  if (directory_end - at < kHeaderSize || load_le(data + at, 4) != kHeaderMagic)
    damaged("a directory entry is missing");
  const char* const header = data + at;
  const uint64_t flags = load_le(header + 8, 2), method = load_le(header + 10, 2);
  uint64_t packed = load_le(header + 20, 4), unpacked = load_le(header + 24, 4), local = load_le(header + 42, 4);
  const uint64_t name_size = load_le(header + 28, 2), extra_size = load_le(header + 30, 2);
  const uint64_t total = kHeaderSize + name_size + extra_size + load_le(header + 32, 2);
  if (total > directory_end - at) damaged("a directory entry ends outside the directory");
  at += total;
  const std::string name(header + kHeaderSize, name_size);

  // The zip64 extra field holds, in this order, the values that did not fit.
  const char* extra = header + kHeaderSize + name_size;
  const char* const extra_end = extra + extra_size;
  while (extra_end - extra >= 4) {
    const uint64_t id = load_le(extra, 2), field_size = load_le(extra + 2, 2);
    extra += 4;
    if (field_size > static_cast<uint64_t>(extra_end - extra)) damaged("entry ", in_quotes(name), ": bad extra field");
    const char* field = extra;
    extra += field_size;
    if (id != 1) continue;
    for (uint64_t* value : {&unpacked, &packed, &local}) {
      if (*value != 0xffffffff) continue;
      if (extra - field < 8) damaged("entry ", in_quotes(name), ": bad zip64 field");
      *value = load_le(field, 8);
      field += 8;
    }
  }
  if (method != 0 || (flags & 1) != 0 || packed != unpacked) {
    usage_error(file_->path(), ": entry ", in_quotes(name), " is ", flags & 1 ? "encrypted" : "compressed",
                "; expected a file that torch.save wrote, whose entries are stored plainly");
  }
  if (local > directory_begin || directory_begin - local < kLocalSize || load_le(data + local, 4) != kLocalMagic) {
    damaged("entry ", in_quotes(name), " has no local header");
  }
  const uint64_t skip = kLocalSize + load_le(data + local + 26, 2) + load_le(data + local + 28, 2);
  if (skip > directory_begin - local || unpacked > directory_begin - local - skip) {
    damaged("entry ", in_quotes(name), " ends outside the file");
  }
  if (!entries_.emplace(name, std::string_view(data + local + skip, static_cast<size_t>(unpacked))).second) {
    damaged("two entries are called ", in_quotes(name));
  }
}

}  // namespace molt::io
