#include "checkpoint/zip.h"

#include <zlib.h>

#include <algorithm>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kZip64LocatorSignature = 0x07064b50;
constexpr uint32_t kZip64EndSignature = 0x06064b50;
constexpr uint32_t kEntrySignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr size_t kEndBytes = 22;
constexpr size_t kZip64LocatorBytes = 20;
constexpr size_t kZip64EndBytes = 56;
constexpr size_t kLocalBytes = 30;
constexpr size_t kLongestComment = 65535;
constexpr uint64_t kMaxDirectoryBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxEntries = 500'000;
// Local headers lie all over the file; the pages around them leave memory after this many.
constexpr size_t kHeadersPerDrop = 256;
constexpr char kDamaged[] = "download the file again; it is damaged or cut short";

constexpr uint16_t kEncrypted = 0x0041;  // bits 0 (encrypted) and 6 (strongly so)

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(path, what, kDamaged);
}

// The fields of a directory entry that do not fit 32 bits.
struct Wide {
  uint64_t bytes;
  uint64_t stored_bytes;
  uint64_t local_offset;
};

void read_zip64_extra(std::span<const std::byte> extra, Wide& wide, const std::string& where) {
  ByteCursor cursor(extra, where);
  while (cursor.remaining() >= 4) {
    const auto id = cursor.number<uint16_t>();
    const auto length = cursor.number<uint16_t>();
    ByteCursor field(cursor.take(length), where);
    if (id != 1) continue;
    for (uint64_t* value : {&wide.bytes, &wide.stored_bytes, &wide.local_offset}) {
      if (*value == UINT32_MAX) *value = field.number<uint64_t>();
    }
    return;
  }
}

}  // namespace

ZipIndex::ZipIndex(const ByteSource& source) : source_(source) {
  const Directory directory = find_directory();
  if (directory.bytes > kMaxDirectoryBytes || directory.entries > kMaxEntries) {
    fail(source_.path(), "a zip directory of " + std::to_string(directory.entries) + " entries and " +
                             std::to_string(directory.bytes) + " bytes; at most " +
                             std::to_string(kMaxEntries) + " and " + std::to_string(kMaxDirectoryBytes) +
                             " are read");
  }
  const Slice bytes =
      source_.slice(static_cast<size_t>(directory.offset), static_cast<size_t>(directory.bytes));
  ByteCursor cursor(bytes.bytes, source_.path() + ": zip directory");
  while (cursor.remaining() > 0) {
    if (entries_.size() == directory.entries)
      fail(source_.path(), "bytes after the last zip directory entry");
    entries_.push_back(read_entry(cursor, directory.offset));
    if (entries_.size() % kHeadersPerDrop == 0) source_.drop(0, static_cast<size_t>(directory.offset));
  }
  source_.drop(0, source_.size());
  if (entries_.size() != directory.entries) {
    fail(source_.path(), "the zip directory has " + std::to_string(entries_.size()) +
                             " entries, its end record says " + std::to_string(directory.entries));
  }
  std::ranges::sort(entries_, {}, &ZipEntry::name);
  const auto twice = std::ranges::adjacent_find(entries_, {}, &ZipEntry::name);
  if (twice != entries_.end()) {
    throw Error(source_.path(), "the archive has two entries named \"" + printable(twice->name) + "\"");
  }
}

ZipIndex::Directory ZipIndex::find_directory() const {
  if (source_.size() < kEndBytes) fail(source_.path(), "too short for a zip archive");
  const size_t tail_bytes = std::min(source_.size(), kEndBytes + kLongestComment);
  const size_t tail_offset = source_.size() - tail_bytes;
  const Slice tail = source_.slice(tail_offset, tail_bytes);
  for (size_t at = tail_bytes - kEndBytes + 1; at-- > 0;) {
    if (load_le<uint32_t>(tail.bytes, at) != kEndSignature) continue;
    ByteCursor cursor(tail.bytes.subspan(at), source_.path());
    cursor.take(4);
    const auto disk = cursor.number<uint16_t>();
    const auto directory_disk = cursor.number<uint16_t>();
    const auto entries_here = cursor.number<uint16_t>();
    const auto entries = cursor.number<uint16_t>();
    const auto bytes = cursor.number<uint32_t>();
    const auto offset = cursor.number<uint32_t>();
    if (cursor.number<uint16_t>() != cursor.remaining()) continue;  // those four bytes inside a comment
    const uint64_t end_record = tail_offset + at;
    if (entries == UINT16_MAX || bytes == UINT32_MAX || offset == UINT32_MAX) {
      return find_zip64_directory(end_record);
    }
    if (disk != 0 || directory_disk != 0 || entries_here != entries) {
      throw Error(source_.path(), "zip archives in several parts are not supported");
    }
    if (uint64_t{offset} + bytes > end_record)
      fail(source_.path(), "the zip directory lies outside the file");
    return {offset, bytes, entries};
  }
  fail(source_.path(), "the end of the zip archive is missing");
}

ZipIndex::Directory ZipIndex::find_zip64_directory(uint64_t end_record) const {
  const std::string where = source_.path() + ": zip64 end record";
  if (end_record < kZip64LocatorBytes) fail(where, "its locator is missing");
  const Slice locator_bytes =
      source_.slice(static_cast<size_t>(end_record) - kZip64LocatorBytes, kZip64LocatorBytes);
  ByteCursor locator(locator_bytes.bytes, where);
  if (locator.number<uint32_t>() != kZip64LocatorSignature) fail(where, "its locator is missing");
  locator.take(4);
  const auto at = locator.number<uint64_t>();
  if (!source_.contains(at, kZip64EndBytes) || at + kZip64EndBytes > end_record) {
    fail(where,
         "byte " + std::to_string(at) + " is no place for it in a file of " + std::to_string(source_.size()));
  }
  const Slice record = source_.slice(static_cast<size_t>(at), kZip64EndBytes);
  ByteCursor cursor(record.bytes, where);
  if (cursor.number<uint32_t>() != kZip64EndSignature) fail(where, "its signature is missing");
  cursor.take(8 + 2 + 2);  // its own size, versions
  if (cursor.number<uint32_t>() != 0 || cursor.number<uint32_t>() != 0) {
    throw Error(source_.path(), "zip archives in several parts are not supported");
  }
  cursor.take(8);  // entries on this disk
  const auto entries = cursor.number<uint64_t>();
  const auto bytes = cursor.number<uint64_t>();
  const auto offset = cursor.number<uint64_t>();
  if (!source_.contains(offset, bytes) || offset + bytes > at)
    fail(where, "the zip directory lies outside the file");
  return {offset, bytes, entries};
}

ZipEntry ZipIndex::read_entry(ByteCursor& cursor, uint64_t directory) const {
  if (cursor.number<uint32_t>() != kEntrySignature) {
    fail(cursor.where(), "no entry at byte " + std::to_string(cursor.position() - 4));
  }
  cursor.take(4);  // versions
  const auto flags = cursor.number<uint16_t>();
  const auto method = cursor.number<uint16_t>();
  cursor.take(4);  // time
  ZipEntry entry;
  // torch.save writes 0 for every entry after set_crc32_options(False). A real checksum is 0 once in 2^32.
  const auto crc32 = cursor.number<uint32_t>();
  if (crc32 != 0) entry.crc32 = crc32;
  Wide wide{};
  wide.stored_bytes = cursor.number<uint32_t>();
  wide.bytes = cursor.number<uint32_t>();
  const auto name_bytes = cursor.number<uint16_t>();
  const auto extra_bytes = cursor.number<uint16_t>();
  const auto comment_bytes = cursor.number<uint16_t>();
  cursor.take(2 + 2 + 4);  // disk, attributes
  wide.local_offset = cursor.number<uint32_t>();
  entry.name = as_text(cursor.take(name_bytes));
  const std::string where = source_.path() + ": entry \"" + printable(entry.name) + "\"";
  read_zip64_extra(cursor.take(extra_bytes), wide, where);
  cursor.take(comment_bytes);
  if ((flags & kEncrypted) != 0) throw Error(where, "it is encrypted", "decrypt the archive");
  entry.compressed = method != 0;
  if (!entry.compressed && wide.bytes != wide.stored_bytes) {
    fail(where,
         "stored as " + std::to_string(wide.stored_bytes) + " bytes but of " + std::to_string(wide.bytes));
  }
  entry.bytes = wide.stored_bytes;
  entry.offset = wide.local_offset;
  locate_data(entry, directory);
  return entry;
}

// Turns the place of the local header into that of the data.
void ZipIndex::locate_data(ZipEntry& entry, uint64_t directory) const {
  const std::string where = source_.path() + ": entry \"" + printable(entry.name) + "\"";
  if (!source_.contains(entry.offset, kLocalBytes) || entry.offset + kLocalBytes > directory) {
    fail(where, "its header at byte " + std::to_string(entry.offset) + " lies outside the " +
                    std::to_string(directory) + " bytes of data");
  }
  const Slice header = source_.slice(static_cast<size_t>(entry.offset), kLocalBytes);
  if (load_le<uint32_t>(header.bytes) != kLocalSignature) {
    fail(where, "no header at byte " + std::to_string(entry.offset));
  }
  const uint64_t name_bytes = load_le<uint16_t>(header.bytes, 26);
  const uint64_t extra_bytes = load_le<uint16_t>(header.bytes, 28);
  entry.offset += kLocalBytes + name_bytes + extra_bytes;
  if (entry.offset > directory || entry.bytes > directory - entry.offset) {
    fail(where, "its " + std::to_string(entry.bytes) + " bytes from byte " + std::to_string(entry.offset) +
                    " lie outside the " + std::to_string(directory) + " bytes of data");
  }
}

const ZipEntry* ZipIndex::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      entries_, name, {}, [](const ZipEntry& entry) { return std::string_view(entry.name); });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

const ZipEntry& ZipIndex::stored(std::string_view name) const {
  const ZipEntry* entry = find(name);
  if (entry == nullptr) {
    throw Error(source_.path(), "the archive has no entry \"" + printable(name) + "\"");
  }
  if (entry->compressed) {
    throw Error(source_.path(), "the entry \"" + printable(name) + "\" is compressed",
                "pack the archive again without compression (zip -0), or save it again with torch.save");
  }
  return *entry;
}

Slice ZipIndex::read(std::string_view name, uint64_t max_bytes) const {
  const ZipEntry& entry = stored(name);
  const std::string where = source_.path() + ": entry \"" + printable(name) + "\"";
  if (entry.bytes > max_bytes) {
    throw Error(where, "it has " + std::to_string(entry.bytes) + " bytes; at most " +
                           std::to_string(max_bytes) + " are read");
  }
  const Slice slice = source_.slice(static_cast<size_t>(entry.offset), static_cast<size_t>(entry.bytes));
  if (!entry.crc32) return slice;
  const auto found = static_cast<uint32_t>(::crc32(::crc32(0, nullptr, 0),
                                                   reinterpret_cast<const Bytef*>(slice.bytes.data()),
                                                   static_cast<uInt>(entry.bytes)));
  if (found != *entry.crc32) {
    fail(where,
         "its checksum is " + std::to_string(found) + ", the archive says " + std::to_string(*entry.crc32));
  }
  return slice;
}

}  // namespace ptq
