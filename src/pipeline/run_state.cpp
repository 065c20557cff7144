#include "pipeline/run_state.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "pipeline/run_identity.h"
#include "pipeline/shared_windows.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/report/rows.h"

namespace ptq {
namespace {

constexpr int kStateFormat = 3;
constexpr const char* kWindowsFile = "windows";
constexpr const char* kStream = "stream";
constexpr const char* kRounded = "rounded";
constexpr const char* kSpoolFile = "tensors.spool";
constexpr const char* kStartOver = "without --resume, to start over";
constexpr size_t kHashDigits = 64;
constexpr JsonLimits kStateLimits{.max_bytes = size_t{1} << 30};

std::string hash_of(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

// A number of the state, within what a run can have.
int64_t bounded(JsonFields& fields, const std::string& key, int64_t lowest, int64_t highest) {
  const int64_t value = fields.integer(key, -1);
  if (value < lowest || value > highest) {
    throw Error(fields.path(), key + " is " + std::to_string(value) + ", which is not in " +
                                   std::to_string(lowest) + " to " + std::to_string(highest));
  }
  return value;
}

Json times_json(const StageTimes& times) {
  Json json = Json::array();
  for (const auto& [stage, elapsed_ms] : times.totals_ms()) json.push_back({stage, elapsed_ms});
  return json;
}

// What the earlier run took comes first.
void add_times(const Json& json, const std::string& where, StageTimes& times) {
  StageTimes all;
  for (const Json& entry : json) {
    const bool well_formed =
        entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!well_formed) throw Error(where, "has a time without stage");
    all.add(entry[0].get<std::string>(), entry[1].get<double>());
  }
  for (const auto& [stage, elapsed_ms] : times.totals_ms()) all.add(stage, elapsed_ms);
  times = all;
}

}  // namespace

RunState::RunState(WorkDirectory& work, Json identity, bool has_windows, bool stream_in_file,
                   Processes& processes)
    : work_(work),
      identity_(std::move(identity)),
      has_windows_(has_windows),
      stream_in_file_(stream_in_file),
      processes_(processes) {}

std::unique_ptr<ArtifactWriter> RunState::make_writer(OutputDirectory& output,
                                                      int64_t max_shard_bytes) const {
  const std::string spool = work_.path(kSpoolFile);
  ::unlink(spool.c_str());
  return std::make_unique<ArtifactWriter>(output, max_shard_bytes, spool);
}

void RunState::save(BlockLoop& loop, const Report& report, const StageTimes& times) {
  std::vector<std::string> stream_files;
  Json windows = nullptr, stream = nullptr, rounded = nullptr;
  const auto save_stream = [&](Stream& states, const char* kind) -> Json {
    if (states.empty()) return nullptr;
    stream_files.push_back(std::string(kind) + "-" + std::to_string(loop.finished));
    return {{"file", stream_files.back()},
            {"sha256", save_all(states, work_.path(stream_files.back()), processes_)}};
  };
  if (has_windows_) {
    const CalibrationWindows& all = loop.windows;
    if (windows_sha256_.empty()) windows_sha256_ = write_tensor(work_.path(kWindowsFile), all.ids);
    windows = {
        {"windows", all.ids.size(0)},     {"length", all.ids.size(1)}, {"calibrated", all.split.calibrated},
        {"held_out", all.split.held_out}, {"report", all.json},        {"sha256", windows_sha256_}};
    stream = save_stream(loop.streams.floats, kStream);
    rounded = save_stream(loop.streams.rounded, kRounded);
  }
  const Json document = {{"format", kStateFormat},
                         {"identity", identity_},
                         {"finished", loop.finished},
                         {"windows", windows},
                         {kStream, stream},
                         {kRounded, rounded},
                         {"writer", loop.finished > 0 ? loop.writer->flush() : Json(nullptr)},
                         {"report", rows_to_json(report)},
                         {"times", times_json(times)}};
  const std::string text = document.dump();
  work_.write_state(hash_of(text) + "\n" + text);
  finished_ = loop.finished;
  for (const std::string& file : stream_files_) {
    if (std::ranges::find(stream_files, file) == stream_files.end()) ::unlink(work_.path(file).c_str());
  }
  stream_files_ = stream_files;
  since_saved_.restart();
}

// The document, if its hash is right and it is this run's.
Json RunState::read_document() const {
  const std::string path = work_.path(WorkDirectory::kStateFile);
  const std::string text = read_file(path, kStateLimits.max_bytes);
  const bool headed = text.size() > kHashDigits && text[kHashDigits] == '\n';
  const std::string_view body = std::string_view(text).substr(headed ? kHashDigits + 1 : text.size());
  if (!headed || hash_of(body) != text.substr(0, kHashDigits)) {
    throw Error(path, "is damaged: its hash is wrong", kStartOver);
  }
  Json document = parse_json(body, path, kStateLimits);
  const bool known = document.is_object() && document.value("format", Json()) == kStateFormat;
  const std::string difference =
      known ? identity_difference(document.value("identity", Json()), identity_)
            : "the state's format is not " + std::to_string(kStateFormat) + ", this program's";
  if (difference.empty()) return document;
  throw Error(work_.path(), "holds the state of another run: " + difference,
              std::string("the program, inputs and options of that run, to finish it; or ") + kStartOver);
}

CalibrationWindows RunState::read_windows(const Json& json, const Model& model) const {
  constexpr int64_t kMost = 1'000'000;  // of --samples and --seq-len
  JsonFields fields(json, "windows");
  CalibrationWindows windows;
  const int64_t count = bounded(fields, "windows", 1, kMost), length = bounded(fields, "length", 1, kMost);
  windows.split = {bounded(fields, "calibrated", 1, count), bounded(fields, "held_out", 1, count)};
  if (windows.split != WindowSplit::of(count, windows.split.held_out) &&
      windows.split != WindowSplit::measured_on_calibrated(count)) {
    throw Error("windows", std::to_string(windows.split.calibrated) + " calibrated on and " +
                               std::to_string(windows.split.held_out) + " held out are not " +
                               std::to_string(count));
  }
  windows.json = fields.at("report");
  windows.ids =
      read_tensor(work_.path(kWindowsFile), {count, length}, at::kLong, fields.string("sha256", ""));
  const bool valid =
      windows.ids.min().item<int64_t>() >= 0 && windows.ids.max().item<int64_t>() < model.vocab_size();
  if (!valid) throw Error(work_.path(kWindowsFile), "has ids outside of the vocabulary");
  fields.finish();
  return windows;
}

Stream RunState::read_stream(const Json& json, const char* kind, const CalibrationWindows& windows,
                             const Model& model) const {
  JsonFields fields(json, kind);
  const std::string file = fields.string("file", "");
  if (!file.starts_with(kind + std::string("-")) || file.find('/') != std::string::npos) {
    throw Error(work_.path(), "\"" + file + "\" is not a stream's name");
  }
  const bool is_whole = kind == std::string(kStream);
  const int64_t count = is_whole ? windows.ids.size(0) : windows.split.calibrated;
  const WindowSplit split = is_whole ? windows.split : WindowSplit::measured_on_calibrated(count);
  Stream stream = Stream::load(work_.path(file), {count, windows.ids.size(1), model.hidden_size()},
                               fields.string("sha256", ""), split, stream_in_file_, kind);
  fields.finish();
  return stream_in_file_ ? stream : Stream(stream.hidden().to(model.device()), split);
}

void RunState::load(const Model& model, OutputDirectory& output, int64_t max_shard_bytes, BlockLoop& loop,
                    Report& report, StageTimes& times) {
  const Json document = read_document();
  try {
    JsonFields fields(document, work_.path(WorkDirectory::kStateFile));
    loop.finished = bounded(fields, "finished", 0, model.num_blocks());
    if (has_windows_) {
      loop.windows = read_windows(fields.at("windows"), model);
      loop.streams.floats = read_stream(fields.at(kStream), kStream, loop.windows, model);
      if (fields.has(kRounded))
        loop.streams.rounded = read_stream(fields.at(kRounded), kRounded, loop.windows, model);
      windows_sha256_ = document["windows"]["sha256"].get<std::string>();
      for (const char* kind : {kStream, kRounded}) {
        if (fields.has(kind)) stream_files_.push_back(document[kind]["file"].get<std::string>());
      }
    }
    rows_from_json(fields.at("report"), "report", report);
    if (static_cast<int64_t>(report.blocks.size()) != loop.finished) {
      throw Error("report", "has " + std::to_string(report.blocks.size()) + " blocks");
    }
    add_times(fields.at("times"), "times", times);
    loop.writer = loop.finished == 0
                      ? make_writer(output, max_shard_bytes)
                      : std::make_unique<ArtifactWriter>(output, max_shard_bytes, work_.path(kSpoolFile),
                                                         fields.at("writer"));
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::kInterrupted) throw;
    throw Error(work_.path(), std::string("cannot be resumed from: ") + error.what(), kStartOver);
  }
  report.calibration = loop.windows.json;
  finished_ = loop.finished;
  for (const auto& entry : std::filesystem::directory_iterator(work_.path())) {
    const std::string name = entry.path().filename().string();
    const bool is_stream = name.starts_with("stream-") || name.starts_with("rounded-");
    if (is_stream && std::ranges::find(stream_files_, name) == stream_files_.end())
      std::filesystem::remove(entry.path());
  }
  since_saved_.restart();
}

}  // namespace ptq
