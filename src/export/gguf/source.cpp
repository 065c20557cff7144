#include "export/gguf/source.h"

#include <algorithm>
#include <filesystem>

#include "export/gguf/rope.h"
#include "ptq/base/error.h"
#include "ptq/base/pattern.h"

namespace ptq {
namespace {

// Of a file that is not mapped: no header is larger.
constexpr size_t kMostHeader = size_t{1} << 28;

DType dtype_of(GgmlType type) {
  return type == GgmlType::kF32    ? DType::kF32
         : type == GgmlType::kF16  ? DType::kF16
         : type == GgmlType::kBF16 ? DType::kBF16
                                   : DType::kU8;
}

TensorInfo info_of(const GgufTensor& tensor) {
  const GgmlTypeEntry& type = ggml_type(tensor.type);
  TensorInfo info{tensor.name, dtype_of(tensor.type), tensor.shape};
  if (!type.is_float()) info.shape.back() = type.row_bytes(info.shape.back());
  return info;
}

GgufFile parse(const MappedFile& bytes) {
  if (bytes.mapped()) return parse_gguf(bytes.bytes(), bytes.size(), bytes.path());
  std::vector<std::byte> begin(std::min(bytes.size(), kMostHeader));
  bytes.read_into(0, begin);
  return parse_gguf(begin, bytes.size(), bytes.path());
}

void refuse_part(const GgufFile& file, const std::string& path) {
  const auto found = file.metadata.find("split.count");
  if (found == file.metadata.end()) return;
  const int64_t* count = std::get_if<int64_t>(&found->second);
  if (count != nullptr && *count <= 1) return;
  throw Error(path, "is one file of several", "llama-gguf-split --merge makes one of them");
}

void add_token_ids(const GgufFile& file, Json& config) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    const auto found = file.metadata.find(std::string("tokenizer.ggml.") + key);
    if (found == file.metadata.end()) continue;
    if (const int64_t* id = std::get_if<int64_t>(&found->second)) config[key] = *id;
  }
}

// A_log of which exp() is -a. The logarithm and the exponential both round, so the neighbours of the
// logarithm are tried: what was written with exp() is found again.
Tensor decay_logarithm(const Tensor& a, const std::string& name) {
  if (!(a < 0).all().item<bool>()) throw Error(name, "has values that are not negative");
  constexpr int kNeighbours = 3;
  const Tensor target = a.neg(), log = target.log();
  Tensor best = log, up = log, down = log;
  const Tensor infinity = at::full_like(log, INFINITY);
  const auto take = [&](const Tensor& candidate) {
    best = at::where((best.exp() != target) & (candidate.exp() == target), candidate, best);
  };
  for (int i = 0; i < kNeighbours; ++i) {
    up = at::nextafter(up, infinity);
    down = at::nextafter(down, infinity.neg());
    take(up);
    take(down);
  }
  return best;
}

void expect_finite(const Tensor& values, const std::string& name) {
  if (!at::isfinite(values).all().item<bool>()) throw Error(name, "has values that are NaN or infinite");
}

// Without values; `codes` is the type of blocks that stay codes.
Weight on_meta(const std::string& name, Role role, const std::vector<int64_t>& shape, at::ScalarType stored,
               const GgmlType* codes) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::kMeta);
  if (codes == nullptr) return {name, role, at::empty(shape, options), stored};
  const int64_t row_bytes = ggml_type(*codes).row_bytes(shape.at(1));
  QuantizedTensor q = unpack_codes_ggml(at::zeros({1, row_bytes}, at::kByte), *codes);
  q.scale = at::empty({shape.at(0), q.scale.size(1)}, options);
  q.codes = at::empty(shape, options.dtype(at::kChar));
  Weight weight(name, role, {}, stored);
  weight.set(std::move(q));
  return weight;
}

}  // namespace

GgufCheckpoint::GgufCheckpoint(const std::string& path, const CheckpointOptions& options)
    : bytes_(MappedFile::open(path, options.use_mmap)), file_(parse(*bytes_)) {
  path_ = path;
  files_ = {path};
  const std::string parent = std::filesystem::path(path).parent_path().string();
  directory_ = parent.empty() ? "." : parent;
  refuse_part(file_, path);
  architecture_ = &find_gguf_architecture(file_, path);
  for (const std::string& pattern : options.ignore) {
    const size_t before = ignored_.size();
    std::erase_if(file_.tensors, [&](const GgufTensor& tensor) {
      if (!matches_pattern(pattern, tensor.name)) return false;
      ignored_.push_back(tensor.name);
      return true;
    });
    if (ignored_.size() == before && options.ignore_must_match)
      throw usage_error("--ignore-tensors", "no tensor matches \"" + pattern + "\"");
  }
  std::ranges::sort(ignored_);
  for (const GgufTensor& tensor : file_.tensors) tensors_.push_back(info_of(tensor));
  config_ = config_of(*architecture_, file_, path);
  config_["tie_word_embeddings"] = find("output.weight") == nullptr;
  for (const auto& [key, tensor] : architecture_->flags) config_[key] = find(tensor) != nullptr;
  add_token_ids(file_, config_);
  if (find(kRopeFactors) != nullptr)
    read_rope_factors(as_tensor(read(kRopeFactors)).to(at::kFloat), config_, path);
}

const GgufTensor& GgufCheckpoint::tensor(const std::string& name) const {
  const auto found = std::ranges::lower_bound(file_.tensors, name, {}, &GgufTensor::name);
  if (found == file_.tensors.end() || found->name != name)
    throw Error(name, "there is no such tensor in " + path_);
  return *found;
}

TensorBytes GgufCheckpoint::read(const std::string& name) const {
  const GgufTensor& stored = tensor(name);
  const TensorInfo info = info_of(stored);
  const auto item = static_cast<uint64_t>(dtype_bytes(info.dtype));
  if (bytes_->mapped() && stored.offset % item == 0)
    return {info, bytes_->bytes().subspan(stored.offset, stored.bytes), bytes_};
  const auto copy = std::make_shared<std::vector<std::byte>>(stored.bytes);
  bytes_->read_into(stored.offset, *copy);
  return {info, *copy, copy};
}

void GgufCheckpoint::drop(const std::string& name) const {
  const GgufTensor& stored = tensor(name);
  bytes_->drop(stored.offset, stored.bytes);
}

std::string GgufCheckpoint::type_of(const Checkpoint& checkpoint, const std::string& name) {
  return ggml_type(static_cast<const GgufCheckpoint&>(checkpoint).tensor(name).type).name;
}

GgufSource::GgufSource(const GgufCheckpoint& checkpoint, at::Device device)
    : checkpoint_(checkpoint), device_(device) {
  for (const GgufTensor& tensor : checkpoint.file().tensors) {
    if (tensor.name == kRopeFactors) continue;
    const GgufPlace place = own_place(checkpoint.architecture(), tensor.name);
    if (place.row == nullptr)
      throw Error(checkpoint.path(),
                  "the tensor " + tensor.name + " is not one of " + checkpoint.architecture().name,
                  "--ignore-tensors \"" + tensor.name + "\" if it does not matter");
    Entry entry{info_of(tensor), tensor.name, place.row->change};
    entry.info.name = place.name;
    entry.info.shape = own_shape(entry.change, tensor.shape);
    quantized_ = quantized_ || !ggml_type(tensor.type).is_float();
    entries_[place.name] = std::move(entry);
  }
}

const TensorInfo* GgufSource::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second.info;
}

std::vector<std::string> GgufSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

Weight GgufSource::read(const std::string& name, Role role, const std::vector<int64_t>& shape) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw Error(name, "the tensor is missing from " + checkpoint_.path());
  const Entry& entry = found->second;
  if (entry.info.shape != shape)
    throw Error(name,
                "has shape " + shape_text(entry.info.shape) + " where the model needs " + shape_text(shape));
  const GgmlType type = checkpoint_.tensor(entry.stored).type;
  const at::ScalarType stored = type == GgmlType::kF16    ? at::kHalf
                                : type == GgmlType::kBF16 ? at::kBFloat16
                                                          : at::kFloat;
  const bool in_codes = shape.size() == 2 && (type == GgmlType::kQ8_0 || type == GgmlType::kQ4_0);
  if (device_.is_meta()) return on_meta(name, role, shape, stored, in_codes ? &type : nullptr);
  const TensorBytes bytes = checkpoint_.read(entry.stored);
  // A copy: what is read must not keep the mapping alive.
  const Tensor data = as_tensor(bytes).clone();
  checkpoint_.drop(entry.stored);
  const Tensor rows = gguf_rows(entry.change, checkpoint_.config(), shape.at(0), /*inverse=*/true);
  Weight weight(name, role, {}, stored);
  if (in_codes) {
    QuantizedTensor q = unpack_codes_ggml(rows.defined() ? data.index_select(0, rows) : data, type);
    expect_finite(q.scale, entry.stored);
    q.codes = q.codes.to(device_);
    q.scale = q.scale.to(device_);
    weight.set(std::move(q));
    return weight;
  }
  const bool is_float = ggml_type(type).is_float();
  Tensor values = is_float ? data : unpack_ggml(data.reshape({-1, data.size(-1)}), type).reshape(shape);
  if (rows.defined()) values = values.index_select(0, rows);
  expect_finite(values, entry.stored);
  const bool is_matrix = role == Role::kLinear || role == Role::kEmbedding || role == Role::kHead;
  if (!is_matrix) values = values.to(at::kFloat);
  if (entry.change == GgufChange::kDecay || entry.change == GgufChange::kHeadDecay)
    values = decay_logarithm(values, entry.stored);
  if (entry.change == GgufChange::kGain) values = values - 1;
  weight.set(values.reshape(shape).to(device_));
  return weight;
}

}  // namespace ptq
