// What a run cost: the rows of report.json, and their text for people. No mathematics, no torch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

inline constexpr int kReportSchemaVersion = 1;

// A format of no more bytes than a corrected layer's that would leave less error.
struct RivalBase {
  std::string format;
  double bits_per_weight = 0;
  double energy = 0;  // as energy_after of the correction
};

// The low-rank term beside a layer's rounded weight.
struct CorrectionRow {
  int64_t rank = 0;
  std::string variant = {};  // "exact", "approx", "lqer", "identity"
  // Mean squared error of a token's outputs, summed, over the calibration windows: of the base alone...
  std::optional<double> energy_before = {};
  std::optional<double> energy_after = {};    // ...and with the correction as stored
  double shrinkage = 0;                       // of the second moment towards its diagonal ("exact")
  int64_t rounds = 1;                         // of rounding and correcting in turns; the best was kept
  std::string stored = "bf16";                // or "f16", "int8"
  int64_t bytes = 0;                          // on disk
  double bits_per_weight = 0;                 // that it adds
  std::optional<RivalBase> better_base = {};  // nullopt: none of those tried

  // What is left of the error; 1 if there was none.
  double remaining() const {
    const double before = energy_before.value_or(0);
    return before > 0 ? energy_after.value_or(before) / before : 1;
  }
};

struct LayerRow {
  std::string name;
  std::string role;
  std::vector<int64_t> shape;
  double bits = 0;          // of a code; the stored float's width if it was not rounded
  std::string granularity;  // "tensor", "channel", "group"; empty if float
  std::optional<int64_t> group;
  std::optional<double> weight_sqnr_db;
  std::optional<double> output_sqnr_db;  // of the layer alone: its float input, quantized as the site says
  double relative_error = 0;  // its output's noise energy over signal energy: to_json() makes shares of it
  std::optional<CorrectionRow> correction = std::nullopt;
};

struct SiteRow {
  std::string name;
  std::string kind;
  std::string quantizer = "none";  // or "static", "dynamic"
  std::optional<double> scale;     // if it is static; the largest, where channels have one each
  std::optional<double>
      percentile;              // of |x| that the scale covers; null if it was chosen as a fraction of amax
  std::optional<double> amax;  // largest |x| while calibrating, after the rewrites
  std::optional<double> clipped_fraction;     // of the values of the held-out rows
  std::optional<int64_t> bits;                // of a code, if it rounds
  double peak_before = 0;                     // largest |x| of the held-out rows, before the rewrites...
  double peak_after = 0;                      // ...and after them; both NaN without such rows
  std::string transform;                      // "hadamard(64), permutation, hadamard(64)"; empty: none
  std::vector<int64_t> rotation_steps;        // of the searches that found its rotations
  std::optional<double> orthogonality_error;  // max |T T^T - 1|, if it has searched rotations
};

struct BlockRow {
  int64_t index = 0;
  std::optional<double> output_sqnr_db;  // of what the block adds to the residual stream
  double max_abs_error = 0;              // NaN if it was not measured
  double relative_error = 0;             // noise energy over signal energy of what the block adds
};

// Of a mixture of experts.
struct RoutingRow {
  std::string name;                 // of the sublayer
  std::vector<int64_t> calibrated;  // tokens of the calibration that went to each expert; empty: not counted
  std::optional<double> changed;    // share of measured tokens that go to other experts once it is quantized
};

// Something that was not done to all layers alike, and the reason.
struct Remark {
  std::string where, what, why;
};

struct Quality {
  std::string text;  // what it was measured on
  int64_t tokens = 0;
  double perplexity_float = 0;
  double perplexity_quantized = 0;
  double mean_kl = 0;         // nats a token, float against quantized
  double top1_agreement = 0;  // share of tokens with the same most likely successor
};

// A program that loads the output, once it is exported in that format.
struct LoadsIn {
  std::string runtime, format;
};

struct Report {
  Json program;  // name, version, git, torch, isa, threads
  Json source;   // name, architecture, parameters, dtype, bytes, files{name: sha256}
  Json recipe;
  Json calibration;  // source, samples, seq_len, kept_aside, tokens, seed; null if no text went through the
                     // model
  std::vector<LayerRow> layers;
  std::vector<SiteRow> sites;
  std::vector<BlockRow> blocks;
  std::vector<RoutingRow> routing;
  std::vector<Remark> fallbacks;  // what was not done as asked
  std::vector<Remark> decisions;  // what the user or the architecture's table asked for: --skip, least bits
  std::optional<Quality> quality;
  int64_t output_bytes = 0;  // of the weight files
  double bits_per_weight = 0;
  int64_t correction_bytes = 0;  // of output_bytes
  double bits_per_weight_without_correction = 0;
  std::map<std::string, int64_t> output_files;  // name -> bytes
  std::vector<LoadsIn> loads_in;
  std::vector<std::pair<std::string, double>> time_ms;  // stage -> time, in the order the stages began
  int64_t peak_rss_bytes = 0;
  std::vector<std::string> warnings;
};

// The document that tools/report.schema.json describes. Absent and non-finite values are null.
Json to_json(const Report& report);
// [{"where", "what", "why"}].
Json to_json(const std::vector<Remark>& remarks);

// The summary that a run prints: what was done, what it cost, what was not done as asked. Ends in a newline.
std::string summary(const Report& report, const std::string& output_path);

// "vllm (compressed-tensors or gptq), llama.cpp (gguf)": Report::loads_in for people; "" if it is empty.
std::string loads_in_text(const Report& report);

// What was not done as asked, what was decided by options or the architecture, and warnings: a heading with
// their number and a line each; "" if there are none.
std::string fallback_text(const std::vector<Remark>& fallbacks);
std::string decision_text(const std::vector<Remark>& decisions);
std::string warning_text(const std::vector<std::string>& warnings);
// The layers of a report that was read back, one line a kind: bits, SQNR of the outputs, part of the error.
std::string kinds_table(const Report& report);

// A table with aligned columns: the first column is flush left, the others flush right. Ends in a newline.
std::string text_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows);

// "9.1 MB", "640 B": decimal units.
std::string format_bytes(int64_t bytes);
// A number with `digits` digits after the point.
std::string format_number(double value, int digits);

}  // namespace ptq
