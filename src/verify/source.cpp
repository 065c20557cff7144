// An output against the float checkpoint it was made from.
//
// The rewrites leave traces that say how to redo them: a site's scales of smoothing divide the rows of its
// producers and multiply the columns of its readers, its transform turns the columns of its readers. Redone
// on the source's weights they give what was rounded; there the half step of plain rounding is a bound for
// each value, which it is not once rotations are undone. Rows and columns commute, so the order of sites does
// not matter. Where rounding is not plain (GPTQ, clips) a value may lie anywhere near, and what is compared
// is the error: the report states it for each weight.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "ptq/artifact/format.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"
#include "verify/parts.h"

namespace ptq {
namespace {

// Of the largest value of a row: what float32 loses while rewriting.
constexpr double kRewriteError = 1e-5;

struct Comparison {
  Subject& subject;
  const Listing& listing;
  bool plain;                               // linears are rounded to nearest without a clip
  std::map<std::string, Json> reported_db;  // weight -> its weight_sqnr_db
  std::vector<std::string> compared = {};
};

// Plain rounding is a promise of the recipe: no step that rounds weights but rtn, with the whole range.
bool rounds_plainly(const Json& recipe) {
  // With feedback, a weight is rounded that is not the source's.
  if (recipe.contains("feedback") && recipe.at("feedback").value("strength", Json(1)) != 0) return false;
  for (const Json& step : recipe.value("steps", Json::array())) {
    if (!step.is_object() || !step.value("step", Json()).is_string()) return false;
    const std::string name = step.value("step", "");
    if (name == "gptq") return false;
    if (name == "rtn" && step.contains("clip") && step.at("clip") != 1) return false;
    // In turns with a correction, a weight is rounded that is not the source's.
    if (name == "low_rank" && step.contains("rounds") && step.at("rounds") != 1) return false;
  }
  return true;
}

void check_files(Subject& subject, const Checkpoint& source) {
  if (subject.report.is_null()) return;
  const Json& stated = subject.report.at("source").at("files");
  for (const std::string& path : source.files()) {
    const std::string name = file_label(path);
    const std::string hash = sha256_file(path);
    if (!stated.contains(name)) {
      subject.findings.add("source " + path,
                           "is not among the files that the report names: another checkpoint?");
    } else if (stated.at(name) != hash) {
      subject.findings.add("source " + path, "has the SHA-256 " + hash + "; the report says " +
                                                 stated.at(name).get<std::string>() +
                                                 ": another checkpoint?");
    }
  }
}

// The block's weights become what was rounded. Returns the names of those that changed.
std::vector<std::string> redo_rewrites(Subject& subject, const Listing& listing, Block& block) {
  std::vector<std::string> touched;
  const auto form_of = [&](const std::string& site) -> const SiteForm* {
    const auto found = listing.sites.find(site_key(block.prefix(), site));
    return found == listing.sites.end() ? nullptr : &found->second;
  };
  const auto smooth_of = [&](const std::string& site) {
    const SiteForm* form = form_of(site);
    return form == nullptr ? Tensor() : form->smooth;
  };
  std::vector<std::string> smoothed;
  for (const FoldEdge& edge : block.fold_edges()) {
    const Tensor smooth = smooth_of(edge.sites.front());
    for (const std::string& site : edge.sites) {
      const Tensor other = smooth_of(site);
      smoothed.push_back(site);
      if (other.defined() != smooth.defined() || (smooth.defined() && !at::equal(other, smooth)))
        subject.findings.add(site_key(block.prefix(), site) + ".smooth",
                             "differs from that of " + edge.sites.front() + ", which the same norm feeds");
    }
    if (!smooth.defined()) continue;
    fold_scales(edge, smooth);
    for (const FoldEdge::Rows& producer : edge.producers) touched.push_back(producer.weight->name);
    for (const Linear* reader : edge.readers) touched.push_back(reader->weight.name);
  }
  for (const Site* site : block.sites()) {
    const bool known = std::find(smoothed.begin(), smoothed.end(), site->name) != smoothed.end();
    if (smooth_of(site->name).defined() && !known)
      subject.findings.add(site_key(block.prefix(), site->name) + ".smooth",
                           "lies at a site that cannot be smoothed");
  }
  for (Linear* linear : block.linears()) {
    const SiteForm* form = form_of(linear->site);
    if (form == nullptr || form->transform.empty()) continue;
    linear->weight.set(form->transform.apply(linear->weight.values()));
    touched.push_back(linear->weight.name);
  }
  return touched;
}

// Where a value is further from the source's than it may be: counted, and the first one described.
class Misses {
 public:
  void add(int64_t r, int64_t c, double stored, double source, double allowed) {
    if (count_++ > 0) return;
    first_ = "the first in row " + std::to_string(r) + ", column " + std::to_string(c) + ": " +
             Json(stored).dump() + " stored, " + Json(source).dump() + " in the source, " +
             Json(allowed).dump() + " allowed between them";
  }
  void report(Findings& findings, const std::string& name, int64_t values, const std::string& what) const {
    if (count_ == 0) return;
    findings.add(
        name, std::to_string(count_) + " of " + std::to_string(values) + " values " + what + "; " + first_);
  }

 private:
  int64_t count_ = 0;
  std::string first_;
};

double largest_of(const float* row, int64_t columns) {
  double largest = 0;
  for (int64_t c = 0; c < columns; ++c) largest = std::max(largest, std::abs(static_cast<double>(row[c])));
  return largest;
}

// Sums of squares of a weight and of its error.
struct Energies {
  double signal = 0, noise = 0;
  // The same of squares in float32, which those of very small or large numbers are not.
  double float_signal = 0, float_noise = 0;

  void add(double value, double error) {
    const auto narrow_value = static_cast<float>(value), narrow_error = static_cast<float>(error);
    signal += value * value;
    noise += error * error;
    float_signal += static_cast<double>(narrow_value * narrow_value);
    float_noise += static_cast<double>(narrow_error * narrow_error);
  }
  double db() const { return 10 * std::log10(signal / noise); }
  // Whether a report may have no number: reports of earlier versions were made in float32.
  bool may_be_null() const {
    return !std::isfinite(db()) || !std::isfinite(10 * std::log10(float_signal / float_noise));
  }
};

// Two numbers above this are both of what float32 loses while rewriting.
constexpr double kRewriteDb = 100;

void check_sqnr(Comparison& comparison, const std::string& name, const Energies& energies) {
  const auto reported = comparison.reported_db.find(name);
  if (reported == comparison.reported_db.end()) return;  // no report, or said there
  const double found = energies.db();
  // What is equal in the run may differ by a rounding where its rewrites are redone.
  if (reported->second.is_null() && (energies.may_be_null() || found > kRewriteDb)) return;
  const double stated = reported->second.is_number() ? reported->second.get<double>() : NAN;
  const double difference = std::abs(found - stated);
  double& largest = comparison.subject.counts.largest_sqnr_difference_db;
  if (std::min(found, stated) > kRewriteDb) return;
  if (difference <= kSqnrToleranceDb) {
    largest = std::max(largest, difference);
    return;
  }
  comparison.subject.findings.add(name, "lies " + Json(found).dump() +
                                            " dB (SQNR) from the source; the report says " +
                                            reported->second.dump());
}

// `source` is what was rounded, float32 [out, ...].
void compare_codes(Comparison& comparison, const Weight& source, bool plain) {
  Subject& subject = comparison.subject;
  const std::string& name = source.name;
  const auto decoder =
      WeightDecoder::reopen(subject, name, subject.quantization.at("weights").at(name), source.sizes().vec());
  if (!decoder) return;
  const int64_t rows = decoder->rows(), columns = decoder->columns();
  const Tensor contiguous = source.values().contiguous();
  const float* reference = contiguous.const_data_ptr<float>();
  std::vector<float> values(static_cast<size_t>(columns)), steps(values.size());
  // A scale that was rounded is off at the outermost code by that much of a step.
  const double slack = 1e-4 + decoder->reach() * (decoder->half_scales() ? 0x1p-11 : 0x1p-22);
  // A scale below float16's normal range is off by half of its smallest number.
  const double smallest = decoder->half_scales() ? decoder->reach() * 0x1p-25 : 0;
  Energies energies;
  Misses misses;
  for (int64_t r = 0; r < rows; ++r) {
    throw_if_interrupted();
    decoder->row(r, values.data(), steps.data());
    const float* row = reference + r * columns;
    const double rewriting = kRewriteError * largest_of(row, columns);
    for (int64_t c = 0; c < columns; ++c) {
      const double error = static_cast<double>(row[c]) - static_cast<double>(values[static_cast<size_t>(c)]);
      const auto step = static_cast<double>(steps[static_cast<size_t>(c)]);
      energies.add(static_cast<double>(row[c]), error);
      if (!plain) continue;
      const double allowed = (0.5 + slack) * step + rewriting + smallest;
      if (!(std::abs(error) <= allowed))
        misses.add(r, c, static_cast<double>(values[static_cast<size_t>(c)]), static_cast<double>(row[c]),
                   allowed);
      if (step > 0)
        subject.counts.largest_error_steps =
            std::max(subject.counts.largest_error_steps, std::abs(error) / step);
    }
  }
  misses.report(subject.findings, name, rows * columns, "lie more than half a step from the source");
  check_sqnr(comparison, name, energies);
  ++(plain ? subject.counts.within_half_step : subject.counts.by_sqnr);
  decoder->drop();
}

// Kept in float: the source's value, or, where rewrites touched it, that value rounded once.
void compare_floats(Comparison& comparison, const Weight& source, bool touched) {
  Subject& subject = comparison.subject;
  const auto found = subject.tensors.find(source.name);
  if (found == subject.tensors.end()) return;
  const ArtifactTensor& stored = found->second;
  const char* dtype = source.stored == at::kHalf ? "F16" : source.stored == at::kBFloat16 ? "BF16" : "F32";
  if (stored.dtype != dtype || stored.shape != source.sizes().vec()) {
    subject.findings.add(source.name, "is " + stored.dtype + " " + shape_text(stored.shape) +
                                          "; the source has " + dtype + " " +
                                          shape_text(source.sizes().vec()));
    return;
  }
  const double half_ulp = source.stored == at::kHalf       ? 0x1p-11
                          : source.stored == at::kBFloat16 ? 0x1p-8
                                                           : 0x1p-23;
  const double smallest = source.stored == at::kHalf ? 0x1p-25 : 0;
  const Tensor contiguous = source.values().contiguous();
  const float* reference = contiguous.const_data_ptr<float>();
  const int64_t columns = source.sizes().size() == 1 ? 1 : stored.values / stored.shape[0];
  std::vector<float> values(static_cast<size_t>(columns));
  Misses misses;
  for (int64_t first = 0; first < stored.values; first += columns) {
    read_floats(stored, first, columns, values.data());
    const double rewriting = touched ? kRewriteError * largest_of(reference + first, columns) : 0;
    for (int64_t c = 0; c < columns; ++c) {
      const auto value = static_cast<double>(values[static_cast<size_t>(c)]);
      const auto wanted = static_cast<double>(reference[first + c]);
      const double allowed = touched ? half_ulp * std::abs(wanted) + smallest + rewriting : 0;
      if (!(std::abs(value - wanted) <= allowed)) misses.add(first / columns, c, value, wanted, allowed);
    }
  }
  misses.report(subject.findings, source.name, stored.values,
                touched ? "are not the source's after its rewrites" : "are not the source's");
  ++subject.counts.equal;
  stored.drop();
}

void compare(Comparison& comparison, const Weight& source, bool touched) {
  comparison.compared.push_back(source.name);
  const auto listed = comparison.listing.weights.find(source.name);
  if (listed == comparison.listing.weights.end()) {
    comparison.subject.findings.add(source.name, "is a weight of the source, and missing");
    return;
  }
  if (listed->second.shape != source.sizes().vec()) {
    comparison.subject.findings.add(source.name, "has the shape " + shape_text(listed->second.shape) +
                                                     "; the source has " + shape_text(source.sizes().vec()));
    return;
  }
  if (comparison.subject.quantization.at("weights").contains(source.name)) {
    compare_codes(comparison, source, comparison.plain || source.role != Role::kLinear);
  } else {
    compare_floats(comparison, source, touched);
  }
}

void compare_all(Comparison& comparison, Model& model) {
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    const std::vector<std::string> touched = redo_rewrites(comparison.subject, comparison.listing, *block);
    for (const Weight* weight : block->weights())
      compare(comparison, *weight, std::find(touched.begin(), touched.end(), weight->name) != touched.end());
  }
  for (const Weight* weight : model.outer_weights()) compare(comparison, *weight, false);
  for (const auto& [name, weight] : comparison.listing.weights) {
    const auto& done = comparison.compared;
    if (std::find(done.begin(), done.end(), name) == done.end())
      comparison.subject.findings.add(name, "is stored, and the source has no such weight");
  }
}

}  // namespace

void check_source(Subject& subject, const Listing& listing, const std::string& path,
                  const CheckpointOptions& options) {
  const OpenModel source = open_model(path, options, at::kCPU);
  if (source.quantized) {
    throw Error(path, "is already quantized by this program",
                "--source with the float checkpoint the output was made from");
  }
  check_files(subject, *source.checkpoint);
  if (source.architecture->name != listing.architecture) {
    subject.findings.add("source " + path, std::string("is a ") + source.architecture->name +
                                               "; the output was made from a " + listing.architecture);
    return;
  }
  if (source.model->num_blocks() != listing.num_blocks) {
    subject.findings.add("source " + path, "has " + std::to_string(source.model->num_blocks()) +
                                               " blocks; the output has " +
                                               std::to_string(listing.num_blocks));
    return;
  }
  subject.counts.compared = true;
  Comparison comparison{subject, listing, rounds_plainly(subject.quantization.at("recipe")), {}};
  if (!subject.report.is_null()) {
    for (const Json& row : subject.report.at("layers")) {
      const std::string layer = row.at("name").get<std::string>();
      const auto linear = listing.weight_of_layer.find(layer);
      comparison.reported_db[linear == listing.weight_of_layer.end() ? layer : linear->second] =
          row.at("weight_sqnr_db");
    }
  }
  compare_all(comparison, *source.model);
}

}  // namespace ptq
