// The index of a zip archive.
//
// Goals: stored (uncompressed) entries of archives as torch.save writes them, zip64 included, located without
// reading them. Non-goals: decompression, encryption, archives in several parts, self-extracting archives.
//
// Layout, little-endian, from the end of the file:
//   end record     "PK\5\6", 22 bytes and a comment that ends the file: entries, size and place of the
//   directory zip64 locator  "PK\6\7", 20 bytes before the end record if there is one: place of the zip64 end
//   record zip64 end      "PK\6\6": the same as the end record, in 64 bits directory      an entry is
//   "PK\1\2", 46 bytes, name, extra, comment: method, CRC-32, sizes, place of the local
//                  header; a field that is all ones is in the zip64 extra (id 1) instead
//   local header   "PK\3\4", 30 bytes, name, extra (whose lengths differ from the directory's), then the data
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/bytes.h"

namespace ptq {

struct ZipEntry {
  std::string name;
  uint64_t offset = 0;  // of the data
  uint64_t bytes = 0;
  std::optional<uint32_t> crc32;  // none if torch.save was told to compute none
  bool compressed = false;
};

class ZipIndex {
 public:
  // Throws Error on anything but a well-formed archive whose entries all lie in the file, on duplicate names
  // and on encryption. Reads the directory and the local headers.
  explicit ZipIndex(const ByteSource& source);

  // Sorted by name.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  // nullptr if there is none.
  const ZipEntry* find(std::string_view name) const;
  // Throws Error if there is none or if it is compressed.
  const ZipEntry& stored(std::string_view name) const;
  // The bytes of a small entry, its checksum, if there is one, verified. Throws Error as stored() does, or if
  // it is longer than `max_bytes`.
  Slice read(std::string_view name, uint64_t max_bytes) const;

 private:
  struct Directory {
    uint64_t offset;
    uint64_t bytes;
    uint64_t entries;
  };
  Directory find_directory() const;
  Directory find_zip64_directory(uint64_t end_record) const;
  ZipEntry read_entry(ByteCursor& cursor, uint64_t directory) const;
  void locate_data(ZipEntry& entry, uint64_t directory) const;

  ByteSource source_;
  std::vector<ZipEntry> entries_;
};

}  // namespace ptq
