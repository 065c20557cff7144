// Writes a GGUF file: keys and the list of tensors first, then the tensors one after the other.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "export/gguf/file.h"
#include "export/whole_file.h"

namespace ptq {

// Keys and values, in the order in which they are added.
class GgufMetadata {
 public:
  void add(std::string_view key, bool value);
  void add(std::string_view key, uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }
  void add(std::string_view key, const std::vector<std::string>& values);
  void add(std::string_view key, const std::vector<int32_t>& values);
  void add(std::string_view key, const std::vector<float>& values);
  // All of another's.
  void add(const GgufMetadata& more);

 private:
  friend class GgufWriter;
  void begin(std::string_view key, GgufValueType type);
  template <typename T>
  void add_array(std::string_view key, GgufValueType type, const std::vector<T>& values);

  std::string bytes_;
  uint64_t count_ = 0;
};

// What a file says of a tensor before its data.
struct GgufTensorHeader {
  std::string name;
  std::vector<int64_t> shape;  // the outermost size first
  GgmlType type;
};

// Removes the unfinished file unless commit() was called.
class GgufWriter {
 public:
  // Writes what comes before the data. Throws Error if something is at `path`, or its folder cannot be
  // written.
  GgufWriter(const std::string& path, const GgufMetadata& metadata, std::vector<GgufTensorHeader> tensors);

  // The data of the next tensor of the list, or a part of it, which the rest follows. REQUIRES: no more bytes
  // than are missing.
  void add(const Tensor& bytes);
  // Flushes the file to disk and renames it. Throws Error. REQUIRES: every tensor was added.
  void commit();
  int64_t bytes() const { return output_.bytes(); }

 private:
  WholeFile output_;
  std::vector<GgufTensorHeader> tensors_;
  size_t next_ = 0;
  int64_t added_ = 0;  // bytes of that one
};

}  // namespace ptq
