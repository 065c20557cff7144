// The safetensors files of an output: 8 bytes of length, a JSON header, then the tensors' bytes without a
// gap.
#include <algorithm>
#include <cstring>

#include "ptq/report/json_schema.h"
#include "verify/parts.h"

namespace ptq {
namespace {

constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kOneFile = "model.safetensors";

constexpr const char* kHeaderSchema = R"({
  "type": "object",
  "properties": {"__metadata__": {"type": "object", "additionalProperties": {"type": "string"}}},
  "additionalProperties": {
    "type": "object", "additionalProperties": false, "required": ["dtype", "shape", "data_offsets"],
    "properties": {
      "dtype": {"enum": ["F32", "F16", "BF16", "I8", "U8", "I32"]},
      "shape": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 1e12}},
      "data_offsets": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 1e15}}}}})";

constexpr const char* kIndexSchema = R"({
  "type": "object", "additionalProperties": false, "required": ["metadata", "weight_map"],
  "properties": {
    "metadata": {"type": "object", "required": ["total_size"], "additionalProperties": false,
                 "properties": {"total_size": {"type": "integer", "minimum": 0, "maximum": 1e15}}},
    "weight_map": {"type": "object", "additionalProperties": {"type": "string"}}}})";

int64_t item_bytes(const std::string& dtype) {
  return dtype == "F32" || dtype == "I32" ? 4 : dtype == "F16" || dtype == "BF16" ? 2 : 1;
}

// The header of a file; throws Error if it cannot be read.
Json read_header(const MappedFile& file, const std::string& name, size_t& data_begin) {
  if (file.size() < 8) throw Error(name, "has " + std::to_string(file.size()) + " bytes, less than a header");
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= static_cast<uint64_t>(file.bytes()[i]) << (8 * i);
  if (length > file.size() - 8) {
    throw Error(name, "the header says it has " + std::to_string(length) + " bytes; the file has " +
                          std::to_string(file.size()));
  }
  data_begin = 8 + static_cast<size_t>(length);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()) + 8,
                              static_cast<size_t>(length));
  return parse_json(text, name);
}

// One tensor of a header. Returns false, with a finding, if its bytes do not fit its shape.
bool read_entry(const std::string& name, const Json& json, ArtifactTensor& tensor, Findings& findings) {
  tensor.name = name;
  tensor.dtype = json.at("dtype").get<std::string>();
  tensor.values = 1;
  int64_t bytes = item_bytes(tensor.dtype);
  bool fits = json.at("data_offsets").size() == 2;
  for (const Json& size : json.at("shape")) {
    tensor.shape.push_back(size.get<int64_t>());
    fits = fits && !__builtin_mul_overflow(bytes, tensor.shape.back(), &bytes);
    if (fits) tensor.values *= tensor.shape.back();
  }
  if (fits) {
    const auto begin = json.at("data_offsets")[0].get<int64_t>(),
               end = json.at("data_offsets")[1].get<int64_t>();
    fits = end - begin == bytes;
    tensor.offset = static_cast<size_t>(begin);
    tensor.bytes = static_cast<size_t>(bytes);
  }
  if (!fits) findings.add(name, "data_offsets " + json.at("data_offsets").dump() + " do not fit its shape");
  return fits;
}

// Each byte of the data belongs to one tensor.
void check_cover(const std::string& file, std::vector<ArtifactTensor>& tensors, size_t data_bytes,
                 Findings& findings) {
  std::sort(tensors.begin(), tensors.end(),
            [](const ArtifactTensor& a, const ArtifactTensor& b) { return a.offset < b.offset; });
  size_t at = 0;
  for (const ArtifactTensor& tensor : tensors) {
    if (tensor.offset != at) {
      findings.add(tensor.name, "begins at byte " + std::to_string(tensor.offset) + " of " + file +
                                    ", the tensor before it ends at " + std::to_string(at));
    }
    at = tensor.offset + tensor.bytes;
  }
  if (at != data_bytes) {
    findings.add(file, "the tensors end at byte " + std::to_string(at) + " of " + std::to_string(data_bytes));
  }
}

void read_weight_file(Subject& subject, const std::string& file) {
  const std::shared_ptr<MappedFile> mapping = MappedFile::open(subject.directory + "/" + file);
  size_t data_begin = 0;
  const Json header = read_header(*mapping, file, data_begin);
  const std::vector<std::string> errors = schema_errors(parse_json(kHeaderSchema, "schema"), header);
  for (const std::string& error : errors) subject.findings.add(file, "header " + error);
  if (!errors.empty()) return;
  std::vector<ArtifactTensor> tensors;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    ArtifactTensor tensor;
    if (read_entry(name, json, tensor, subject.findings)) tensors.push_back(std::move(tensor));
  }
  const size_t data_bytes = mapping->size() - data_begin;
  check_cover(file, tensors, data_bytes, subject.findings);
  for (ArtifactTensor& tensor : tensors) {
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) continue;  // said already
    tensor.file = file;
    tensor.mapping = mapping;
    tensor.offset += data_begin;
    const std::string name = tensor.name;
    const auto [other, fresh] = subject.tensors.emplace(name, std::move(tensor));
    if (!fresh) subject.findings.add(name, "is stored in " + other->second.file + " and in " + file);
  }
}

void check_index(Subject& subject, const std::vector<std::string>& weight_files) {
  const Json index = read_json_file(subject.directory + "/" + kIndexFile);
  const std::vector<std::string> errors = schema_errors(parse_json(kIndexSchema, "schema"), index);
  for (const std::string& error : errors) subject.findings.add(kIndexFile, error);
  if (!errors.empty()) return;
  int64_t total = 0;
  const Json& map = index.at("weight_map");
  for (const auto& [name, tensor] : subject.tensors) {
    total += static_cast<int64_t>(tensor.bytes);
    if (!map.contains(name) || map.at(name) != tensor.file)
      subject.findings.add(name, std::string(kIndexFile) + " does not say that it lies in " + tensor.file);
  }
  for (const auto& [name, file] : map.items()) {
    if (subject.tensors.contains(name)) continue;
    subject.findings.add(name, "is said to lie in " + file.dump() + ", and is in no weight file");
  }
  if (index.at("metadata").at("total_size").get<int64_t>() != total) {
    subject.findings.add(kIndexFile, "total_size is " + index.at("metadata").at("total_size").dump() +
                                         "; the tensors have " + std::to_string(total) + " bytes");
  }
  if (weight_files.size() < 2) subject.findings.add(kIndexFile, "lists shards; there is one weight file");
}

}  // namespace

float float_at(const std::string& dtype, const std::byte* bytes) {
  if (dtype == "F32") {
    float value = 0;
    std::memcpy(&value, bytes, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof(bits));
  if (dtype == "BF16") return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  return static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
}

void read_floats(const ArtifactTensor& tensor, int64_t first, int64_t count, float* out) {
  const int64_t item = item_bytes(tensor.dtype);
  for (int64_t i = 0; i < count; ++i) out[i] = float_at(tensor.dtype, tensor.data() + (first + i) * item);
}

void read_weight_files(Subject& subject) {
  std::vector<std::string> weight_files;
  bool indexed = false;
  for (const std::string& file : subject.files) {
    indexed = indexed || file == kIndexFile;
    if (file.ends_with(".safetensors")) weight_files.push_back(file);
  }
  for (const std::string& file : weight_files)
    subject.findings.guard(file, [&] { read_weight_file(subject, file); });
  subject.counts.tensors = static_cast<int64_t>(subject.tensors.size());
  if (indexed) {
    subject.findings.guard(kIndexFile, [&] { check_index(subject, weight_files); });
  } else if (weight_files.size() != 1 || weight_files.front() != kOneFile) {
    subject.findings.add(weight_files.size() > 1 ? kIndexFile : kOneFile, "is missing");
  }
}

const ArtifactTensor* find_tensor(const std::map<std::string, ArtifactTensor>& tensors,
                                  const std::string& name, std::vector<std::string>& used,
                                  Findings& findings) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    findings.add(name, "the tensor is missing");
    return nullptr;
  }
  used.push_back(name);
  return &found->second;
}

}  // namespace ptq
