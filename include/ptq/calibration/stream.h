// Hidden states of the calibration windows, carried from sublayer to sublayer.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "ptq/calibration/tensor_file.h"
#include "ptq/model/model.h"

namespace ptq {

// Windows of `length` tokens that go through a sublayer at once: about 2048 tokens, which keeps a batch's
// activations in cache.
int64_t windows_per_batch(int64_t length);

// Calls body(begin, end) for consecutive batches of windows. Throws Error (interrupted) between batches after
// a SIGINT.
void for_each_batch(int64_t windows, int64_t length, const std::function<void(int64_t, int64_t)>& body);

// Runs the sublayer on hidden [windows, length, d_model], batch by batch, for the observer alone.
void observe(const Sublayer& sublayer, const Tensor& hidden, Observer& observer);
// The outputs for hidden [windows, length, d_model], batch by batch; the same shape.
Tensor outputs_of(const Sublayer& sublayer, const Tensor& hidden);
Tensor outputs_of(const Block& block, const Tensor& hidden);
// The same, in place: hidden becomes the output. `observer` may be null. Throws Error, naming the block and
// the first site, if an output is NaN or infinite.
void advance(const Sublayer& sublayer, Tensor& hidden, Observer* observer = nullptr);
void advance(const Block& block, Tensor& hidden);

// The hidden states before the first block, of ids [windows, length], batch by batch.
Tensor embed_windows(const Model& model, const Tensor& ids);
// The same, into `hidden` [windows, length, d_model].
void embed_windows(const Model& model, const Tensor& ids, const Tensor& hidden);

// Which of the windows of a run are calibrated on, and which are held out for choices and for measuring.
struct WindowSplit {
  int64_t calibrated = 0;  // the first so many
  int64_t held_out = 0;    // the last so many

  // All windows are calibrated on, and measured on as well: of a single window, or where no step calibrates.
  static WindowSplit measured_on_calibrated(int64_t windows) { return {windows, windows}; }
  static WindowSplit of(int64_t windows, int64_t held_out) { return {windows - held_out, held_out}; }

  bool operator==(const WindowSplit&) const = default;
};

// The hidden states of all windows, on their way through the model: in memory, or in a file; none in a run
// without data.
class Stream {
 public:
  // Of a run without data.
  explicit Stream(int64_t d_model) : d_model_(d_model) {}
  // hidden [windows, length, d_model], in memory.
  Stream(Tensor hidden, const WindowSplit& split)
      : hidden_(std::move(hidden)), split_(split), d_model_(hidden_.size(2)) {}
  // In a file of `directory`, which the file stays in: of zeros, to be filled. On the CPU. While the states
  // move, the file's name is `name` + "-moving".
  Stream(const std::string& directory, at::IntArrayRef shape, const WindowSplit& split,
         const std::string& name = "stream");
  // What save() wrote to `path`. With `in_file` it stays there, and the stream lies in it. Throws Error if
  // the file has another size or hash.
  static Stream load(const std::string& path, at::IntArrayRef shape, const std::string& sha256,
                     const WindowSplit& split, bool in_file, const std::string& name = "stream");

  bool empty() const { return !hidden_.defined(); }
  int64_t windows() const { return hidden_.size(0); }
  int64_t length() const { return hidden_.size(1); }
  int64_t d_model() const { return d_model_; }
  const Tensor& hidden() const { return hidden_; }
  // Views.
  Tensor calibrated() const { return hidden_.slice(0, 0, split_.calibrated); }
  Tensor held_out() const { return hidden_.slice(0, windows() - split_.held_out); }

  // Moves all windows past the sublayer; the observer, which may be null, sees those calibrated on. What
  // save() wrote stays.
  void advance(const Sublayer& sublayer, Observer* observer);

  // Puts the states into the file `path`, for load(), and waits until they are on disk: a copy of them, or,
  // of a stream that lies in a file, that file under another name, without a copy. Returns their SHA-256.
  std::string save(const std::string& path);

 private:
  Tensor hidden_;
  WindowSplit split_;
  int64_t d_model_;
  MappedTensor file_;      // that hidden_ lies in, if it does
  std::string name_;       // of that file
  bool is_saved_ = false;  // file_ is what save() wrote: the states go into another when they move
};

}  // namespace ptq
