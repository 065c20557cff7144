// What a run keeps on disk after some of its blocks, so that one that was stopped, at whatever moment, goes
// on from the last of them.
//
// Files of the work directory, all named in the first:
//   state          64 hexadecimal digits, a newline, and the JSON document whose SHA-256 they are: the run's
//                  identity, blocks finished, hashes of the other files, the writer's state, the report's
//                  rows, times
//   windows        the calibration windows, int64 [windows, length]
//   stream-N       the hidden states after N blocks, float32 [windows, length, d_model]; neither this nor
//                  the windows in a run without data
//   rounded-N      with error feedback, those of the rounded model, [windows calibrated on, length, d_model]
//   stream-moving  those states on their way, where they do not lie in memory; rounded-moving
//   tensors.spool  the bytes of the artifact's tensors so far (ptq/artifact/safetensors_spool.h)
// `state` is the last to be written, in one rename, when the other files are flushed. The stream of the state
// before is removed after that. What the spool holds past the bytes that the state names, of blocks that were
// finished later, is cut off when a run goes on.
//
// Nothing in these files is trusted: every byte is under a hash, and what the hashes cover is checked against
// the model. Non-goals: states of other versions of the program, or of other machines' byte order.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/block_pass.h"
#include "pipeline/calibrate.h"
#include "pipeline/stages.h"
#include "ptq/artifact/writer.h"
#include "ptq/base/clock.h"
#include "ptq/base/work_directory.h"
#include "ptq/model/model.h"
#include "ptq/report/report.h"

namespace ptq {

// What a run has made after some blocks.
struct BlockLoop {
  explicit BlockLoop(int64_t d_model) : streams{Stream(d_model), Stream(d_model)} {}

  int64_t finished = 0;  // blocks
  CalibrationWindows windows;
  Streams streams;
  std::unique_ptr<ArtifactWriter> writer;
};

class RunState {
 public:
  // `work` and `processes` must outlive it; the first of these has the object. `identity` is
  // run_identity()'s. `has_windows` is false for a run without data. `stream_in_file`: load() leaves the
  // stream in its file.
  RunState(WorkDirectory& work, Json identity, bool has_windows = true, bool stream_in_file = false,
           Processes& processes = one_process());

  // Whether `seconds` have gone by since the last save, load or construction.
  bool is_due(double seconds) const { return since_saved_.elapsed_seconds() >= seconds; }

  // Replaces the state on disk. Its cost is that of writing the streams once, if they do not lie in files.
  // Other processes call send_to_first() for the streams of theirs that are not empty.
  void save(BlockLoop& loop, const Report& report, const StageTimes& times);

  // Reads the state on disk: fills all of `loop`, with the streams of all windows, the report's rows and
  // calibration, and adds to `times`. The writer writes to `output`. Throws Error, and leaves the files
  // as they are, if the state is that of another run (and says what differs), or damaged.
  void load(const Model& model, OutputDirectory& output, int64_t max_shard_bytes, BlockLoop& loop,
            Report& report, StageTimes& times);

  // A writer with an empty spool.
  std::unique_ptr<ArtifactWriter> make_writer(OutputDirectory& output, int64_t max_shard_bytes) const;

  // Blocks finished in the state on disk; none if this run has neither saved nor loaded one.
  std::optional<int64_t> finished() const { return finished_; }

 private:
  Json read_document() const;
  CalibrationWindows read_windows(const Json& json, const Model& model) const;
  Stream read_stream(const Json& json, const char* kind, const CalibrationWindows& windows,
                     const Model& model) const;

  WorkDirectory& work_;
  Json identity_;
  bool has_windows_;
  bool stream_in_file_;
  Processes& processes_;
  std::string windows_sha256_;             // empty: not on disk yet
  std::vector<std::string> stream_files_;  // that the state names
  std::optional<int64_t> finished_;
  Stopwatch since_saved_;
};

}  // namespace ptq
