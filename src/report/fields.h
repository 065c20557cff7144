// The fields of a report, each declared once: its key in report.json, the member that holds it, and what
// tools/report.schema.json says of it. Whoever writes, reads or describes a report visits them.
//
// visit_fields(row, visit) calls visit(key, member, about) for each field of a row, in the order of the
// document. The type of the member tells the form: an optional is null if it is absent, a row is an object, a
// vector is a list. A structured binding names all members of a row: one that gets another member does not
// compile until it is listed here.
#pragma once

#include <concepts>
#include <initializer_list>
#include <optional>

#include "ptq/report/report.h"

namespace ptq {

// What the type of a field does not tell.
struct About {
  const char* text = "";                          // the schema's description
  std::optional<int> minimum = {}, maximum = {};  // of the numbers in it
  std::initializer_list<const char*> one_of = {};
  bool or_null = false;  // null stands for an empty string, for a number that is not finite, for no section
  bool required = true;
};

// The forms of rows: the document, and what a run keeps for itself, with every number to the last bit.
enum class Form { kDocument, kExact };

// The document's schema_version.
struct Version {};

// A row's relative_error. The document has its part of the sum over all rows; null if there is no error.
template <typename Number>
struct Share {
  Number& relative_error;
};

// A part of the report that stays JSON, written as it is. `fields` declares what is in it.
template <typename J, typename Fields>
struct Section {
  J& json;
  Fields fields;
};

// Members of the report that the document has in an object of their own.
template <typename R>
struct OutputOf {
  R& report;
};

template <typename T, typename Row>
concept Like = std::same_as<std::remove_const_t<T>, Row>;

void visit_fields(Like<RivalBase> auto& row, const auto& visit) {
  auto& [format, bits_per_weight, energy] = row;
  visit("format", format);
  visit("bits_per_weight", bits_per_weight);
  visit("energy", energy);
}

void visit_fields(Like<CorrectionRow> auto& row, const auto& visit) {
  auto& [rank, variant, energy_before, energy_after, shrinkage, rounds, stored, bytes, bits_per_weight,
         better_base] = row;
  visit("rank", rank, {.minimum = 0});
  visit("variant", variant);
  visit("shrinkage", shrinkage,
        {.text = "of the second moment towards its diagonal", .minimum = 0, .maximum = 1});
  visit("rounds", rounds, {.text = "of rounding and correcting in turns", .minimum = 1});
  visit("stored", stored, {.one_of = {"bf16", "f16", "int8"}});
  visit("bytes", bytes, {.minimum = 0});
  visit("bits_per_weight", bits_per_weight, {.text = "that the correction adds", .minimum = 0});
  visit("energy_before", energy_before,
        {.text = "mean squared error of a token's outputs, summed, of the base alone"});
  visit("energy_after", energy_after);
  visit("better_base", better_base,
        {.text = "a format of no more bytes that would leave less error, by the same statistics"});
}

void visit_fields(Like<LayerRow> auto& row, const auto& visit) {
  auto& [name, role, shape, bits, granularity, group, weight_sqnr_db, output_sqnr_db, relative_error,
         correction] = row;
  visit("name", name);
  visit("role", role,
        {.one_of = {"embedding", "head", "norm", "linear", "bias", "conv", "decay", "skip", "positions"}});
  visit("shape", shape, {.minimum = 1});
  visit("bits", bits, {.text = "of a code, or of the stored float", .minimum = 1});
  visit("granularity", granularity, {.one_of = {"tensor", "channel", "group"}, .or_null = true});
  visit("group", group, {.minimum = 1});
  visit("weight_sqnr_db", weight_sqnr_db);
  visit("output_sqnr_db", output_sqnr_db,
        {.text = "of the layer alone, its input quantized as its site says"});
  visit("error_share", Share{relative_error},
        {.text = "the layer's noise over signal, as a part of the sum over all layers"});
  visit("correction", correction);
}

void visit_fields(Like<SiteRow> auto& row, const auto& visit) {
  auto& [name, kind, quantizer, scale, percentile, amax, clipped_fraction, bits, peak_before, peak_after,
         transform, rotation_steps, orthogonality_error] = row;
  visit("name", name);
  visit("kind", kind);
  visit("quantizer", quantizer, {.one_of = {"static", "dynamic", "none"}});
  visit("scale", scale, {.minimum = 0});
  visit("percentile", percentile,
        {.text = "of |x| that the scale covers; null if it was chosen as a fraction of amax", .minimum = 0});
  visit("amax", amax, {.minimum = 0});
  visit("clipped_fraction", clipped_fraction, {.minimum = 0});
  visit("bits", bits, {.minimum = 2});
  visit("peak_before", peak_before,
        {.text = "largest |x| of the held-out windows, before the rewrites", .minimum = 0, .or_null = true});
  visit("peak_after", peak_after, {.minimum = 0, .or_null = true});
  visit("transform", transform, {.text = "the stages applied online, in order", .or_null = true});
  visit("rotation_steps", rotation_steps, {.text = "of the searches that found its rotations", .minimum = 0});
  visit("orthogonality_error", orthogonality_error,
        {.text = "of the searched rotations as stored, max |R R^T - 1|", .minimum = 0});
}

void visit_fields(Like<BlockRow> auto& row, const auto& visit) {
  auto& [index, output_sqnr_db, max_abs_error, relative_error] = row;
  visit("index", index, {.minimum = 0});
  visit("output_sqnr_db", output_sqnr_db);
  visit("max_abs_error", max_abs_error, {.minimum = 0, .or_null = true});
  visit("error_share", Share{relative_error},
        {.text = "the block's noise over signal, as a part of the sum over all blocks"});
}

void visit_fields(Like<Remark> auto& row, const auto& visit) {
  auto& [where, what, why] = row;
  visit("where", where);
  visit("what", what);
  visit("why", why);
}

void visit_fields(Like<RoutingRow> auto& row, const auto& visit) {
  auto& [name, calibrated, changed] = row;
  visit("name", name);
  visit(
      "calibrated", calibrated,
      {.text = "tokens of the calibration that went to each expert; empty if no step counted", .minimum = 0});
  visit("changed", changed,
        {.text = "share of measured tokens that go to other experts once the model is quantized",
         .minimum = 0});
}

void visit_fields(Like<LoadsIn> auto& row, const auto& visit) {
  auto& [runtime, format] = row;
  visit("runtime", runtime);
  visit("format", format);
}

void visit_fields(Like<Quality> auto& row, const auto& visit) {
  auto& [text, tokens, perplexity_float, perplexity_quantized, mean_kl, top1_agreement] = row;
  visit("text", text);
  visit("tokens", tokens, {.minimum = 1});
  visit("perplexity_float", perplexity_float, {.minimum = 1, .or_null = true});
  visit("perplexity_quantized", perplexity_quantized, {.minimum = 1, .or_null = true});
  visit("mean_kl", mean_kl, {.text = "nats a token, float against quantized", .or_null = true});
  visit("top1_agreement", top1_agreement, {.minimum = 0, .or_null = true});
}

// The sections hold nothing but their JSON: what is visited are values of the types that it must have.
struct ProgramFields {};
struct SourceFields {};
struct FeedbackFields {};
struct RecipeFields {};
struct CalibrationFields {};
struct StepFields {
  static constexpr bool kOthersToo = true;  // a step has fields that are not declared here
};

void visit_fields(Like<ProgramFields> auto&, const auto& visit) {
  std::string text;
  visit("name", text, {.one_of = {"quantize"}});
  visit("version", text);
  visit("git", text, {.text = "the commit; \"-dirty\" is added if files had been changed"});
  visit("torch", text);
  visit("isa", text, {.text = "the instruction set of the kernels"});
  visit("threads", int64_t{}, {.minimum = 1});
}

void visit_fields(Like<SourceFields> auto&, const auto& visit) {
  std::string text;
  int64_t number = 0;
  visit("name", text);
  visit("architecture", text);
  visit("parameters", number, {.minimum = 1});
  visit("dtype", text);
  visit("bytes", number, {.text = "of the weight files", .minimum = 1});
  visit(
      "format", text,
      {.text = "of another program that had quantized it; absent of a float checkpoint", .required = false});
  visit("ignored_tensors", std::vector<std::string>(),
        {.text = "what --ignore-tensors left out; absent if it was not given", .required = false});
  visit("files", std::map<std::string, std::string>(), {.text = "name -> SHA-256"});
}

void visit_fields(Like<StepFields> auto&, const auto& visit) {
  visit("step", std::string());
}

void visit_fields(Like<FeedbackFields> auto&, const auto& visit) {
  double number = 0;
  visit("strength", number, {.text = "of error feedback; 0: off", .minimum = 0, .maximum = 1});
  visit("damping", number, {.minimum = 0});
}

void visit_fields(Like<RecipeFields> auto&, const auto& visit) {
  std::string text;
  int64_t number = 0;
  std::vector<std::string> names;
  visit("method", text);
  visit("bits", text, {.text = "weights and activations; empty if the method is given by `base`"});
  visit("base", text, {.text = "the weight format, of methods that correct one"});
  visit("families", names);
  visit("steps", std::vector<StepFields>(), {.text = "in order; the other fields of a step are its options"});
  visit("skip", names);
  visit("embedding", text, {.one_of = {"float", "int8"}});
  visit("feedback", FeedbackFields(), {.required = false});
  visit("samples", number, {.minimum = 1});
  visit("seq_len", number, {.minimum = 1});
}

void visit_fields(Like<CalibrationFields> auto&, const auto& visit) {
  int64_t number = 0;
  visit("source", std::string());
  visit("samples", number, {.minimum = 1});
  visit("seq_len", number, {.minimum = 1});
  visit("kept_aside", number,
        {.text = "the last so many samples, for choices and for measuring", .minimum = 1});
  visit("tokens", number, {.minimum = 1});
  visit("seed", uint64_t{}, {.minimum = 0});
}

template <typename R>
void visit_fields(const OutputOf<R>& output, const auto& visit) {
  R& report = output.report;
  visit("bytes", report.output_bytes, {.text = "of the weight files", .minimum = 1});
  visit("bits_per_weight", report.bits_per_weight, {.minimum = 0, .or_null = true});
  visit("correction_bytes", report.correction_bytes, {.text = "of `bytes`: low-rank terms", .minimum = 0});
  visit("bits_per_weight_without_correction", report.bits_per_weight_without_correction,
        {.minimum = 0, .or_null = true});
  visit("files", report.output_files, {.text = "name -> bytes", .minimum = 0});
}

// The lists of rows, which grow block by block.
void visit_rows(Like<Report> auto& report, const auto& visit) {
  visit("layers", report.layers);
  visit("sites", report.sites);
  visit("blocks", report.blocks);
  visit("fallbacks", report.fallbacks, {.text = "what was not done as asked"});
  visit("decisions", report.decisions,
        {.text = "what an option or the architecture's table asked for: layers left in float, tensors "
                 "ignored; absent in reports of 1.0",
         .required = false});
}

void visit_fields(Like<Report> auto& report, const auto& visit) {
  visit("schema_version", Version());
  visit("program", Section{report.program, ProgramFields()});
  visit("source", Section{report.source, SourceFields()});
  visit("recipe", Section{report.recipe, RecipeFields()});
  visit("calibration", Section{report.calibration, CalibrationFields()},
        {.text = "null if no text went through the model: the recipe needs none, and none was given",
         .or_null = true});
  visit_rows(report, visit);
  visit("routing", report.routing,
        {.text = "mixtures of experts; absent in earlier reports", .required = false});
  visit("quality", report.quality);
  visit("output", OutputOf{report});
  visit("loads_in", report.loads_in,
        {.text = "programs that load an export of the output, and its format; absent in earlier reports",
         .required = false});
  visit("time_ms", report.time_ms, {.text = "stage -> time", .minimum = 0});
  visit("peak_rss_bytes", report.peak_rss_bytes, {.minimum = 1});
  visit("warnings", report.warnings);
}

// What has fields.
template <typename T>
concept Row = requires(T& row, const int& visit) { visit_fields(row, visit); };

}  // namespace ptq
