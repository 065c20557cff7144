// quantize diff A B: two reports, or two checkpoints tensor by tensor.
//
// Checkpoints are compared as float models: codes are dequantized, and what a run has folded into the weights
// is undone first (artifact/source_weights), so that a rotated weight does not look like a wrong one. Two
// tensors are in memory at a time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "ptq/artifact/source_weights.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/export/formats.h"
#include "ptq/report/report_diff.h"
#include "report_commands.h"

namespace ptq {
namespace {

constexpr int64_t kChunk = int64_t{1} << 20;  // values whose float64 differences are in memory at a time

bool is_report_file(const std::string& path) {
  return path.ends_with(".json") && !path.ends_with(".index.json");
}

// One side of the comparison.
struct Side {
  explicit Side(const std::string& path) : Side(path, find_foreign_format(path)) {}
  Side(const std::string& path, const FormatEntry* format)
      : open(opened(path, format)),
        checkpoint(open.checkpoint.get()),
        weights(format != nullptr ? std::make_unique<SourceWeights>(open)
                                  : std::make_unique<SourceWeights>(*checkpoint)) {}

  // Whether another name of the same storage is in `names`.
  bool tied_to_one_of(const std::string& name, const std::set<std::string>& names) const {
    return std::any_of(checkpoint->ties().begin(), checkpoint->ties().end(), [&](const auto& group) {
      return std::find(group.begin(), group.end(), name) != group.end() &&
             std::any_of(group.begin(), group.end(),
                         [&names](const std::string& other) { return names.contains(other); });
    });
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const TensorInfo& info : checkpoint->tensors()) sum += info.bytes();
    for (const auto& group : checkpoint->ties())
      sum -= static_cast<int64_t>(group.size() - 1) * checkpoint->find(group.front())->bytes();
    return sum;
  }

  // The whole model of another program's format, else only a checkpoint.
  static OpenModel opened(const std::string& path, const FormatEntry* format) {
    if (format != nullptr) return format->open(path, CheckpointOptions::of_any_tensors(), at::kCPU);
    OpenModel open;
    open.checkpoint = open_checkpoint(path, CheckpointOptions::of_any_tensors());
    return open;
  }

  OpenModel open;
  const Checkpoint* checkpoint;
  std::unique_ptr<SourceWeights> weights;
};

struct Energies {
  double signal = 0;   // sum a^2
  double noise = 0;    // sum (b - a)^2
  double largest = 0;  // max |b - a|

  double relative_error() const { return noise == 0 ? 0 : std::sqrt(noise / signal); }
};

Energies compare_values(const Tensor& a, const Tensor& b) {
  Energies energies;
  const Tensor flat_a = a.reshape({-1}), flat_b = b.reshape({-1});
  for (int64_t first = 0; first < flat_a.numel(); first += kChunk) {
    throw_if_interrupted();
    const int64_t last = std::min(first + kChunk, flat_a.numel());
    const Tensor x = flat_a.slice(0, first, last).to(at::kDouble);
    const Tensor difference = flat_b.slice(0, first, last).to(at::kDouble) - x;
    energies.signal += x.square().sum().item<double>();
    energies.noise += difference.square().sum().item<double>();
    energies.largest = std::max(energies.largest, difference.abs().max().item<double>());
  }
  return energies;
}

// Whether libtorch has the dtype, so that values can be compared and not bytes alone.
bool has_values(DType dtype) {
  return dtype != DType::kF8E4M3 && dtype != DType::kF8E5M2 && dtype != DType::kU16 && dtype != DType::kU32 &&
         dtype != DType::kU64;
}

// Stored alike, without codes or rewrites: their bytes decide, whatever the dtype.
bool same_bytes(const Side& a, const Side& b, const std::string& name) {
  const TensorInfo *in_a = a.checkpoint->find(name), *in_b = b.checkpoint->find(name);
  if (in_a == nullptr || in_b == nullptr || in_a->dtype != in_b->dtype) return false;
  const TensorBytes left = a.checkpoint->read(name), right = b.checkpoint->read(name);
  const bool same = left.bytes.size() == right.bytes.size() &&
                    std::memcmp(left.bytes.data(), right.bytes.data(), left.bytes.size()) == 0;
  a.checkpoint->drop(name);
  b.checkpoint->drop(name);
  return same;
}

Json finite(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json row_of(const std::string& name, const char* status, const TensorInfo* a, const TensorInfo* b) {
  const auto shape = [](const TensorInfo* info) {
    return info != nullptr ? Json(info->shape) : Json(nullptr);
  };
  return {{"name", name},
          {"status", status},
          {"shape_a", shape(a)},
          {"shape_b", shape(b)},
          {"bits_a", nullptr},
          {"bits_b", nullptr},
          {"relative_error", nullptr},
          {"sqnr_db", nullptr},
          {"max_abs_error", nullptr},
          {"rewrite_a", nullptr},
          {"rewrite_b", nullptr}};
}

Json compare_tensor(Side& a, Side& b, const std::string& name, Energies& total) {
  const TensorInfo *in_a = a.weights->find(name), *in_b = b.weights->find(name);
  if (in_a->shape != in_b->shape) return row_of(name, "other shape", in_a, in_b);
  Json row = row_of(name, "same", in_a, in_b);
  if (!a.weights->quantized() && !b.weights->quantized() && same_bytes(a, b, name)) {
    row["bits_a"] = row["bits_b"] = 8 * dtype_bytes(in_a->dtype);
    row["relative_error"] = row["max_abs_error"] = 0.0;
    return row;
  }
  if (!has_values(in_a->dtype) || !has_values(in_b->dtype)) {
    row["status"] = "changed";
    return row;
  }
  const SourceWeight left = a.weights->read(name), right = b.weights->read(name);
  const Energies energies = compare_values(left.value, right.value);
  row["status"] = energies.noise == 0 ? "same" : "changed";
  row["bits_a"] = left.bits > 0 ? Json(left.bits) : Json(nullptr);
  row["bits_b"] = right.bits > 0 ? Json(right.bits) : Json(nullptr);
  row["relative_error"] = finite(energies.relative_error());
  row["sqnr_db"] = finite(-20 * std::log10(energies.relative_error()));
  row["max_abs_error"] = finite(std::isfinite(energies.noise) ? energies.largest : energies.noise);
  if (!left.rewrite.empty()) row["rewrite_a"] = left.rewrite;
  if (!right.rewrite.empty()) row["rewrite_b"] = right.rewrite;
  if (std::isfinite(energies.noise) && std::isfinite(energies.signal)) {
    total.signal += energies.signal;
    total.noise += energies.noise;
  }
  return row;
}

Json summarize(const Json& tensors, const Side& a, const Side& b, const Energies& total) {
  std::map<std::string, int64_t> counts;
  const Json* worst = nullptr;
  for (const Json& row : tensors) {
    ++counts[row["status"].get<std::string>()];
    if (!row["relative_error"].is_number() || row["relative_error"] == 0.0) continue;
    if (worst == nullptr || row["relative_error"] > (*worst)["relative_error"]) worst = &row;
  }
  return {{"same", counts["same"]},
          {"changed", counts["changed"]},
          {"other_shape", counts["other shape"]},
          {"only_a", counts["only a"]},
          {"only_b", counts["only b"]},
          {"relative_error", finite(total.relative_error())},
          {"worst_tensor", worst != nullptr ? (*worst)["name"] : Json(nullptr)},
          {"bytes_a", a.bytes()},
          {"bytes_b", b.bytes()}};
}

Json diff_checkpoints(const DiffOptions& options, Progress& progress) {
  Side a(options.a), b(options.b);
  const std::vector<std::string> names_a = a.weights->names(), names_b = b.weights->names();
  const std::set<std::string> set_a(names_a.begin(), names_a.end()), set_b(names_b.begin(), names_b.end());
  progress.start("comparing", static_cast<int64_t>(names_a.size()));
  Json tensors = Json::array();
  Energies total;
  for (const std::string& name : names_a) {
    if (set_b.contains(name)) {
      tensors.push_back(compare_tensor(a, b, name, total));
    } else if (!a.tied_to_one_of(name, set_b)) {
      tensors.push_back(row_of(name, "only a", a.weights->find(name), nullptr));
    }
    progress.advance(1, name);
  }
  for (const std::string& name : names_b) {
    if (!set_a.contains(name) && !b.tied_to_one_of(name, set_a))
      tensors.push_back(row_of(name, "only b", nullptr, b.weights->find(name)));
  }
  progress.finished();
  return {{"kind", "checkpoints"},
          {"a", options.a},
          {"b", options.b},
          {"tensors", tensors},
          {"summary", summarize(tensors, a, b, total)}};
}

std::string shown(const Json& value, const char* format) {
  return value.is_number() ? fmt::format(fmt::runtime(format), value.get<double>()) : "";
}

std::string undone_text(const Json& row) {
  const Json &a = row["rewrite_a"], &b = row["rewrite_b"];
  if (a.is_null() && b.is_null()) return "";
  if (a == b) return "undone in both: " + a.get<std::string>();
  std::string text = a.is_null() ? "" : "undone in A: " + a.get<std::string>();
  if (!b.is_null()) text += (text.empty() ? "" : "; ") + ("undone in B: " + b.get<std::string>());
  return text;
}

// text_table() sets columns flush right; remarks read better flush left.
void pad_last_column(std::vector<std::vector<std::string>>& rows) {
  size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.back().size());
  for (auto& row : rows) row.back().resize(width, ' ');
}

std::string checkpoint_diff_text(const Json& diff) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : diff["tensors"]) {
    std::string shape = (row["shape_a"].is_null() ? row["shape_b"] : row["shape_a"]).dump();
    if (row["status"] == "other shape") shape += " " + row["shape_b"].dump();
    const bool one_width = row["bits_a"] == row["bits_b"];
    rows.push_back({row["name"].get<std::string>(), row["status"].get<std::string>(), shape,
                    shown(row["bits_a"], "{:g}") + (one_width ? "" : " -> " + shown(row["bits_b"], "{:g}")),
                    row["status"] == "changed" ? shown(row["relative_error"], "{:.3g}") : "",
                    shown(row["sqnr_db"], "{:.1f}"), undone_text(row)});
  }
  pad_last_column(rows);
  const Json& summary = diff["summary"];
  const auto count = [&summary](const char* key) { return summary[key].get<int64_t>(); };
  std::string text = text_table({"tensor", "", "shape", "bits", "error", "dB", ""}, rows);
  text += fmt::format("{} the same, {} changed", count("same"), count("changed"));
  if (count("other_shape") > 0) text += fmt::format(", {} of another shape", count("other_shape"));
  text += fmt::format(", {} in A alone, {} in B alone; {} -> {}", count("only_a"), count("only_b"),
                      format_bytes(count("bytes_a")), format_bytes(count("bytes_b")));
  if (summary["worst_tensor"].is_string()) {
    text +=
        fmt::format("; relative error {} over all, worst in {}", shown(summary["relative_error"], "{:.3g}"),
                    summary["worst_tensor"].get<std::string>());
  }
  return text + "\n";
}

}  // namespace

void diff_command(const DiffOptions& options, const CommonOptions& common) {
  const auto may_be_report = [](const std::string& path) {
    std::error_code ignored;
    return is_report_file(path) || std::filesystem::exists(path + "/report.json", ignored);
  };
  if (is_report_file(options.a) || is_report_file(options.b)) {
    if (!may_be_report(options.a) || !may_be_report(options.b)) {
      throw usage_error(is_report_file(options.a) ? options.b : options.a,
                        "is no report, and the other is one", "two reports, or two checkpoints");
    }
    const Json diff = diff_reports(read_report(options.a), read_report(options.b));
    print(common.json ? diff.dump(1) + "\n" : report_diff_text(diff));
    return;
  }
  Progress progress(common.status_line, common.quiet ? ProgressStyle::kQuiet : ProgressStyle::kNormal);
  const Json diff = diff_checkpoints(options, progress);
  print(common.json ? diff.dump(1) + "\n" : checkpoint_diff_text(diff));
}

}  // namespace ptq
