// What an artifact stands for as a float model, which everything loads: codes become values, corrections and
// online transforms are taken into the weights. What has no home in a float model is the rounding of
// activations; the result says where.
#include <limits>

#include "export/hub_directory.h"
#include "export/rows.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

// x -> T x in front of a weight W is W T for a weight that reads x.
Tensor whole_weight(Block& block, const Linear& linear) {
  const Transform& transform = block.site(linear.site).transform;
  Tensor values = linear.weight.values();
  if (linear.correction) values = values + linear.correction->product();
  return transform.empty() ? values : transform.apply_inverse(values);
}

std::string why_not(const OpenModel& artifact, const ExportTarget&) {
  return reason_against([&] {
    for (int64_t i = 0; i < artifact.model->num_blocks(); ++i)
      expect_transforms_of_linears(*artifact.model->load_block(i), "a float model");
  });
}

struct Rounding {
  int64_t layers = 0;  // that were in codes, corrected or behind a transform
  double worst_db = std::numeric_limits<double>::infinity();
  std::map<std::string, int64_t> unrounded_sites;
};

ExportResult result_of(const Rounding& rounding, const char* dtype, const std::string& output) {
  const bool exact = rounding.worst_db == std::numeric_limits<double>::infinity();
  std::string text =
      output + ": a float model in " + dtype + ", " + count_text(rounding.layers, "layer") + " made float" +
      (exact ? std::string() : ", at " + std::to_string(rounding.worst_db).substr(0, 5) + " dB or more") +
      "\n" + unrounded_text(rounding.unrounded_sites);
  return {{{"output", output},
           {"dtype", dtype},
           {"layers", rounding.layers},
           {"sqnr_db", exact ? Json(nullptr) : Json(rounding.worst_db)},
           {"unrounded_sites", rounding.unrounded_sites}},
          text};
}

ExportResult write(const OpenModel& artifact, const ExportTarget& target) {
  const at::ScalarType dtype =
      dtype_of_option(target.options.at("outtype")).value_or(model_dtype(*artifact.model));
  Rounding rounding;
  HubForm form;
  form.floats = dtype;
  form.values = [&](Block& block, const Linear& linear) {
    const bool stored = linear.weight.quantized() == nullptr && !linear.correction &&
                        block.site(linear.site).transform.empty();
    if (stored) return linear.weight.values();
    const Tensor values = whole_weight(block, linear);
    ++rounding.layers;
    rounding.worst_db = std::min(rounding.worst_db, sqnr_db(values, values.to(dtype).to(at::kFloat)));
    return values;
  };
  for (int64_t i = 0; i < artifact.model->num_blocks(); ++i)
    add_unrounded_sites(*artifact.model->load_block(i), rounding.unrounded_sites);
  write_hub_directory(artifact, target.output, form);
  return result_of(rounding, dtype_text(dtype), target.output);
}

}  // namespace

FormatEntry float_format() {
  FormatEntry entry{};
  entry.name = "float";
  entry.description = "a float model, of the values that codes stand for";
  entry.output = "directory to write";
  entry.suffix = "-float";
  entry.options = {{"outtype",
                    "FLOATS",
                    "of all tensors: f32, f16, bf16 (default: what the model computes in)",
                    "a dtype of a float model",
                    {"auto", "f32", "f16", "bf16"}}};
  entry.exports_floats = true;
  entry.why_not = why_not;
  entry.write = write;
  entry.why_not_opened = "it is a float checkpoint, which is opened as any other";
  return entry;
}

}  // namespace ptq
