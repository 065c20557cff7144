#include "export/torch_file.h"

#include <caffe2/serialize/inline_container.h>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// Opcodes of pickle, protocol 2.
constexpr char kMark = '(', kStop = '.', kEmptyDict = '}', kSetItems = 'u', kText = 'X', kGlobal = 'c',
               kTuple = 't', kEmptyTuple = ')', kReduce = 'R', kPersistent = 'Q', kFalse = '\x89',
               kLong = '\x8a';
constexpr const char* kProtocol = "\x80\x02";

const char* storage_class(at::ScalarType type) {
  switch (type) {
    case at::kBool:
      return "BoolStorage";
    case at::kByte:
      return "ByteStorage";
    case at::kChar:
      return "CharStorage";
    case at::kShort:
      return "ShortStorage";
    case at::kInt:
      return "IntStorage";
    case at::kLong:
      return "LongStorage";
    case at::kHalf:
      return "HalfStorage";
    case at::kBFloat16:
      return "BFloat16Storage";
    case at::kFloat:
      return "FloatStorage";
    case at::kDouble:
      return "DoubleStorage";
    default:
      break;
  }
  TORCH_CHECK(false, "no tensor of ", type, " is written");
}

}  // namespace

TorchFile::TorchFile(const std::string& path) : output_(path) {
  const auto write = [this](const void* data, size_t size) {
    output_.file().write({static_cast<const std::byte*>(data), size});
    return size;
  };
  zip_ = std::make_unique<caffe2::serialize::PyTorchStreamWriter>(write);
  pickle_ = kProtocol;
  pickle_ += {kEmptyDict, kMark};
}

TorchFile::~TorchFile() {
  // A writer that is not finalized is so in its destructor, and the file goes all the same.
  if (zip_ && !zip_->finalized()) {
    try {
      zip_->writeEndOfFile();
    } catch (const std::exception&) {
    }
  }
}

void TorchFile::add_text(std::string_view text) {
  pickle_ += kText;
  const auto size = static_cast<uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8) pickle_ += static_cast<char>(size >> shift & 0xff);
  pickle_ += text;
}

// As eight bytes, little-endian.
void TorchFile::add_integer(int64_t value) {
  pickle_ += {kLong, 8};
  for (int shift = 0; shift < 64; shift += 8)
    pickle_ += static_cast<char>(static_cast<uint64_t>(value) >> shift & 0xff);
}

void TorchFile::add(const std::string& key, std::string_view text) {
  add_text(key);
  add_text(text);
}

// torch._utils._rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks)
void TorchFile::add(const std::string& key, const at::Tensor& tensor) {
  const at::Tensor stored = tensor.contiguous().cpu();
  const std::string number = std::to_string(tensors_++);
  zip_->writeRecord("data/" + number, stored.const_data_ptr(), stored.nbytes());
  const auto add_tuple = [this](at::IntArrayRef values) {
    pickle_ += kMark;
    for (const int64_t value : values) add_integer(value);
    pickle_ += kTuple;
  };
  const auto add_global = [this](const std::string& module, const std::string& name) {
    pickle_ += kGlobal + module + "\n" + name + "\n";
  };
  add_text(key);
  add_global("torch._utils", "_rebuild_tensor_v2");
  pickle_ += {kMark, kMark};
  add_text("storage");
  add_global("torch", storage_class(stored.scalar_type()));
  add_text(number);
  add_text("cpu");
  add_integer(stored.numel());
  pickle_ += {kTuple, kPersistent};
  add_integer(0);
  add_tuple(stored.sizes());
  add_tuple(stored.strides());
  pickle_ += kFalse;
  add_global("collections", "OrderedDict");
  pickle_ += {kEmptyTuple, kReduce, kTuple, kReduce};
}

void TorchFile::commit() {
  pickle_ += {kSetItems, kStop};
  zip_->writeRecord("data.pkl", pickle_.data(), pickle_.size());
  zip_->writeEndOfFile();
  output_.commit();
}

}  // namespace ptq
