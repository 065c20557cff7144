#include "pipeline/run_state.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "pipeline/run_identity.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/report/rows.h"

namespace ptq {
namespace {

constexpr int kStateFormat = 1;
constexpr const char* kRowsFile = "rows";
constexpr const char* kSpoolFile = "tensors.spool";
constexpr const char* kStartOver = "without --resume, to start over";
constexpr size_t kHashDigits = 64;
constexpr size_t kReadBytes = size_t{1} << 24;
constexpr JsonLimits kStateLimits{.max_bytes = size_t{1} << 30};

std::string hash_of(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

// Writes the tensor's bytes and flushes them. Returns their hash.
std::string write_tensor(const std::string& path, const Tensor& tensor) {
  const Tensor local = tensor.cpu().contiguous();
  const std::span data(static_cast<const std::byte*>(local.const_data_ptr()),
                       static_cast<size_t>(local.nbytes()));
  ::unlink(path.c_str());  // of a run that was killed before its state named it
  OutputFile file(path);
  file.write(data);
  file.close();
  return sha256_hex(data);
}

// The tensor that write_tensor() wrote. Memory is taken only if the file has the size.
Tensor read_tensor(const std::string& path, at::IntArrayRef shape, at::ScalarType type,
                   const std::string& sha256) {
  const auto file = MappedFile::open(path, /*use_mmap=*/false);
  int64_t bytes = static_cast<int64_t>(at::elementSize(type));
  for (const int64_t size : shape) bytes *= size;
  if (static_cast<int64_t>(file->size()) != bytes) {
    throw Error(path, "has " + std::to_string(file->size()) + " bytes where " + std::to_string(bytes) +
                          " are expected");
  }
  Tensor tensor = at::empty(shape, type);
  const std::span data(static_cast<std::byte*>(tensor.mutable_data_ptr()), file->size());
  Sha256 hash;
  for (size_t offset = 0; offset < data.size(); offset += kReadBytes) {
    throw_if_interrupted();
    const std::span part = data.subspan(offset, std::min(kReadBytes, data.size() - offset));
    file->read_into(offset, part);
    hash.update(part);
  }
  if (hash.hex() != sha256) throw Error(path, "is damaged: its hash is not the one in the state");
  return tensor;
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

RunState::RunState(WorkDirectory& work, Json identity, bool has_rows)
    : work_(work), identity_(std::move(identity)), has_rows_(has_rows) {}

std::unique_ptr<ArtifactWriter> RunState::make_writer(OutputDirectory& output,
                                                      int64_t max_shard_bytes) const {
  const std::string spool = work_.path(kSpoolFile);
  ::unlink(spool.c_str());
  return std::make_unique<ArtifactWriter>(output, max_shard_bytes, spool);
}

void RunState::save(const BlockLoop& loop, const Report& report, const StageTimes& times) {
  std::string stream_file;
  Json rows = nullptr, stream = nullptr;
  if (has_rows_) {
    if (rows_sha256_.empty()) rows_sha256_ = write_tensor(work_.path(kRowsFile), loop.rows.ids);
    rows = {{"rows", loop.rows.ids.size(0)},
            {"length", loop.rows.ids.size(1)},
            {"kept", loop.rows.kept},
            {"report", loop.rows.json},
            {"sha256", rows_sha256_}};
    stream_file = "stream-" + std::to_string(loop.finished);
    stream = {{"file", stream_file}, {"sha256", write_tensor(work_.path(stream_file), loop.stream.hidden)}};
  }
  const Json document = {{"format", kStateFormat},
                         {"identity", identity_},
                         {"finished", loop.finished},
                         {"rows", rows},
                         {"stream", stream},
                         {"writer", loop.finished > 0 ? loop.writer->flush() : Json(nullptr)},
                         {"report", rows_to_json(report)},
                         {"times", times_json(times)}};
  const std::string text = document.dump();
  work_.write_state(hash_of(text) + "\n" + text);
  finished_ = loop.finished;
  if (!stream_file_.empty() && stream_file_ != stream_file) ::unlink(work_.path(stream_file_).c_str());
  stream_file_ = stream_file;
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

CalibrationRows RunState::read_rows(const Json& json, const Model& model) const {
  constexpr int64_t kMost = 1'000'000;  // of --samples and --seq-len
  JsonFields fields(json, "rows");
  CalibrationRows rows;
  const int64_t count = bounded(fields, "rows", 1, kMost), length = bounded(fields, "length", 1, kMost);
  rows.kept = bounded(fields, "kept", 1, count);
  rows.json = fields.at("report");
  rows.ids = read_tensor(work_.path(kRowsFile), {count, length}, at::kLong, fields.string("sha256", ""));
  const bool valid =
      rows.ids.min().item<int64_t>() >= 0 && rows.ids.max().item<int64_t>() < model.vocab_size();
  if (!valid) throw Error(work_.path(kRowsFile), "has ids outside of the vocabulary");
  fields.finish();
  return rows;
}

Stream RunState::read_stream(const Json& json, const CalibrationRows& rows, const Model& model) const {
  JsonFields fields(json, "stream");
  const std::string file = fields.string("file", "");
  if (!file.starts_with("stream-") || file.find('/') != std::string::npos) {
    throw Error(work_.path(), "\"" + file + "\" is not a stream's name");
  }
  const Tensor hidden =
      read_tensor(work_.path(file), {rows.ids.size(0), rows.ids.size(1), model.hidden_size()}, at::kFloat,
                  fields.string("sha256", ""));
  fields.finish();
  return {hidden.to(model.device()), rows.kept, model.hidden_size()};
}

void RunState::load(const Model& model, OutputDirectory& output, int64_t max_shard_bytes, BlockLoop& loop,
                    Report& report, StageTimes& times) {
  const Json document = read_document();
  try {
    JsonFields fields(document, work_.path(WorkDirectory::kStateFile));
    loop.finished = bounded(fields, "finished", 0, model.num_blocks());
    loop.stream = {Tensor(), 0, model.hidden_size()};
    if (has_rows_) {
      loop.rows = read_rows(fields.at("rows"), model);
      loop.stream = read_stream(fields.at("stream"), loop.rows, model);
      rows_sha256_ = document["rows"]["sha256"].get<std::string>();
      stream_file_ = document["stream"]["file"].get<std::string>();
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
  report.calibration = loop.rows.json;
  finished_ = loop.finished;
  for (const auto& entry : std::filesystem::directory_iterator(work_.path())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("stream-") && name != stream_file_) std::filesystem::remove(entry.path());
  }
  since_saved_.restart();
}

}  // namespace ptq
