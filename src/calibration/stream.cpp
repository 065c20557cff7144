#include "ptq/calibration/stream.h"

#include <algorithm>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int64_t kTokensPerBatch = 2048;
constexpr const char* kMoving = "-moving";  // ends the name of a file of states that no save() wrote

// Remembers the first site at which anything is not finite.
class FiniteObserver : public Observer {
 public:
  void observe(const Site& site, const Tensor& x) override {
    if (first.empty() && !at::isfinite(x).all().item<bool>()) first = site.name;
  }
  std::string first;
};

// Says where the sublayer's activations leave what float32 can hold.
[[noreturn]] void throw_not_finite(const Sublayer& sublayer, const Tensor& hidden) {
  FiniteObserver observer;
  sublayer.forward(hidden, nullptr, &observer);
  throw Error(sublayer.prefix,
              "activations are NaN or infinite, " +
                  (observer.first.empty() ? "in its output" : "first at the site " + observer.first),
              "check the checkpoint and the calibration text; a model whose weights or activations passed "
              "65504 in FP16 is damaged");
}

// Writes the outputs for `from` [windows, length, d_model] to `to`, which may be the same tensor, and calls
// done(begin, end) after each batch.
void move(const Sublayer& sublayer, const Tensor& from, const Tensor& to, Observer* observer,
          const std::function<void(int64_t, int64_t)>& done) {
  for_each_batch(from.size(0), from.size(1), [&](int64_t begin, int64_t end) {
    const Tensor batch = from.slice(0, begin, end), output = sublayer.forward(batch, nullptr, observer);
    // The largest magnitude shows NaN as well as infinity.
    if (!ops::all_finite(output)) throw_not_finite(sublayer, batch);
    to.slice(0, begin, end).copy_(output);
    done(begin, end);
  });
}

}  // namespace

int64_t windows_per_batch(int64_t length) {
  return std::max<int64_t>(1, kTokensPerBatch / std::max<int64_t>(1, length));
}

void for_each_batch(int64_t windows, int64_t length, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t step = windows_per_batch(length);
  for (int64_t begin = 0; begin < windows; begin += step) {
    throw_if_interrupted();
    body(begin, std::min(windows, begin + step));
  }
}

void observe(const Sublayer& sublayer, const Tensor& hidden, Observer& observer) {
  for_each_batch(hidden.size(0), hidden.size(1), [&](int64_t begin, int64_t end) {
    sublayer.forward(hidden.slice(0, begin, end), nullptr, &observer);
  });
}

Tensor outputs_of(const Sublayer& sublayer, const Tensor& hidden) {
  Tensor output = at::empty_like(hidden);
  for_each_batch(hidden.size(0), hidden.size(1), [&](int64_t begin, int64_t end) {
    output.slice(0, begin, end).copy_(sublayer.forward(hidden.slice(0, begin, end)));
  });
  return output;
}

Tensor outputs_of(const Block& block, const Tensor& hidden) {
  Tensor output = hidden;
  for (const Sublayer& sublayer : block.sublayers()) output = outputs_of(sublayer, output);
  return output;
}

void advance(const Sublayer& sublayer, Tensor& hidden, Observer* observer) {
  move(sublayer, hidden, hidden, observer, [](int64_t, int64_t) {});
}

void advance(const Block& block, Tensor& hidden) {
  for (const Sublayer& sublayer : block.sublayers()) advance(sublayer, hidden);
}

void embed_windows(const Model& model, const Tensor& ids, const Tensor& hidden) {
  for_each_batch(ids.size(0), ids.size(1), [&](int64_t begin, int64_t end) {
    hidden.slice(0, begin, end).copy_(model.embed(ids.slice(0, begin, end)));
  });
}

Tensor embed_windows(const Model& model, const Tensor& ids) {
  const Tensor hidden =
      at::empty({ids.size(0), ids.size(1), model.hidden_size()}, at::TensorOptions().device(model.device()));
  embed_windows(model, ids, hidden);
  return hidden;
}

Stream::Stream(const std::string& directory, at::IntArrayRef shape, const WindowSplit& split,
               const std::string& name)
    : split_(split),
      d_model_(shape[2]),
      file_(MappedTensor::create(directory + "/" + name + kMoving, shape)),
      name_(name) {
  hidden_ = file_.tensor();
}

Stream Stream::load(const std::string& path, at::IntArrayRef shape, const std::string& sha256,
                    const WindowSplit& split, bool in_file, const std::string& name) {
  if (!in_file) return Stream(read_tensor(path, shape, at::kFloat, sha256), split);
  MappedTensor file = MappedTensor::open(path, shape, sha256);
  Stream stream(file.tensor(), split);
  stream.file_ = std::move(file);
  stream.name_ = name;
  stream.is_saved_ = true;
  return stream;
}

void Stream::advance(const Sublayer& sublayer, Observer* observer) {
  const bool in_file = file_.tensor().defined();
  MappedTensor target = file_;
  if (is_saved_) {
    const std::string directory = std::filesystem::path(file_.path()).parent_path().string();
    target = MappedTensor::create(directory + "/" + name_ + kMoving, hidden_.sizes());
  }
  const Tensor moved = in_file ? target.tensor() : hidden_;
  const auto move_windows = [&](int64_t begin, int64_t end, Observer* watching) {
    const Tensor from = hidden_.slice(0, begin, end), to = moved.slice(0, begin, end);
    move(sublayer, from, to, watching, [&](int64_t first, int64_t last) {
      if (!in_file) return;
      file_.drop(from.slice(0, first, last));
      target.drop(to.slice(0, first, last));
    });
  };
  move_windows(0, split_.calibrated, observer);
  move_windows(split_.calibrated, windows(), nullptr);
  file_ = target;
  hidden_ = moved;
  is_saved_ = false;
}

std::string Stream::save(const std::string& path) {
  if (!file_.tensor().defined()) return write_tensor(path, hidden_);
  std::string hash = file_.flush();
  file_.rename(path);
  is_saved_ = true;
  return hash;
}

}  // namespace ptq
