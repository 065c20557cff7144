#include "ptq/pipeline/plan.h"

#include <algorithm>
#include <filesystem>

#include "pipeline/block_pass.h"
#include "pipeline/calibrate.h"
#include "pipeline/cost.h"
#include "pipeline/opening.h"
#include "pipeline/shared_windows.h"
#include "ptq/artifact/layout.h"
#include "ptq/base/memory.h"
#include "ptq/base/output.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/evaluate.h"

namespace ptq {
namespace {

constexpr int64_t kReportBytesPerTensor = 500;  // of the rows of its layer and block; measured

PlanRow plan_row(const Weight& weight, const WeightSource& source) {
  PlanRow row;
  row.name = weight.name;
  row.role = role_name(weight.role);
  row.shape = weight.sizes().vec();
  row.dtype = dtype_name(source.find(weight.name)->dtype);
  row.bits = static_cast<double>(at::elementSize(weight.stored)) * 8;
  ArtifactLayout alone(1);
  alone.add(weight);
  row.bytes = alone.tensor_bytes();
  row.rounded = weight.quantized() != nullptr;
  if (!row.rounded) return row;
  const WeightScheme& scheme = weight.quantized()->scheme;
  row.bits = scheme.bits;
  row.granularity = granularity_name(scheme.granularity);
  if (scheme.granularity == Granularity::kGroup) row.group = scheme.group;
  return row;
}

PlanSite plan_site(const std::string& prefix, const Site& site) {
  PlanSite row{
      prefix + ".sites." + site.name, site.quantizer.kind_name(), {}, transform_text(site.transform)};
  if (site.quantizer.kind != ActivationQuantizer::Kind::kNone) row.bits = site.quantizer.bits;
  return row;
}

// Names and bytes of every file of the output.
void add_files(const OpenModel& open, const RunCompanions& companions, const ArtifactLayout& layout,
               Plan& plan) {
  for (const ArtifactLayout::WeightFile& file : layout.weight_files()) {
    plan.files[file.name] = file.bytes();
    plan.output_bytes += file.bytes();
  }
  for (const auto& [name, text] : layout.text_files(open.model->config(), plan.recipe))
    plan.files[name] = static_cast<int64_t>(text.size());
  for (const auto& [name, text] : companions.texts) plan.files[name] = static_cast<int64_t>(text.size());
  for (const auto& [name, path] : companions.files)
    plan.files[name] = static_cast<int64_t>(std::filesystem::file_size(path));
  plan.files["report.json"] = std::nullopt;
  int64_t sums = 0;
  for (const auto& [name, bytes] : plan.files) sums += 64 + 2 + static_cast<int64_t>(name.size()) + 1;
  plan.files["SHA256SUMS"] = sums;
  plan.bits_per_weight =
      8 * static_cast<double>(plan.output_bytes) / static_cast<double>(open.model->num_parameters());
}

RunWindows windows_of_run(const RunOptions& options, const Recipe& recipe, const CalibrationWindows& windows,
                          const std::vector<int64_t>& eval_ids, int64_t length) {
  RunWindows all;
  if (!windows.empty())
    all = {windows.ids.size(0),         windows.ids.size(1),           windows.split,
           options.calibration.empty(), options.hidden_states_in_file, recipe.feedback.is_on()};
  if (eval_ids.empty()) return all;
  const Tensor eval = evaluation_windows(eval_ids, length, options.eval_text);
  all.eval_windows = eval.size(0);
  all.eval_length = eval.size(1);
  return all;
}

// What one of `processes` has of them.
RunWindows share_of(const RunWindows& all, int rank, int processes) {
  if (processes == 1 || all.windows == 0) return all;
  const WindowShare share(all.split, all.windows, all.length, rank, processes);
  RunWindows own = all;
  own.processes = processes;
  own.lanes = share.lanes();
  own.split = share.split();
  // Windows that serve for both are counted once.
  own.windows = rank == 0 && all.split.calibrated == all.windows ? all.windows
                                                                 : own.split.calibrated + own.split.held_out;
  if (rank == 0) return own;
  own.self_written = false;
  own.eval_windows = own.eval_length = 0;
  return own;
}

// The first process, who measures, and the one that has most windows.
std::vector<RunCost> costs_of(Model& model, const RunWindows& all, int processes) {
  std::vector<RunCost> costs;
  costs.emplace_back(model, share_of(all, 0, processes));
  RunWindows most;
  for (int rank = 1; rank < processes; ++rank) {
    const RunWindows own = share_of(all, rank, processes);
    if (rank == 1 || own.windows > most.windows) most = own;
  }
  if (processes > 1) costs.emplace_back(model, most);
  return costs;
}

// Of the output and of what lies beside it meanwhile (run_state.h) when both are largest: at the last block,
// whose stream is written before that of an earlier one goes, or while the tensors that were gathered in the
// spool are copied into the output.
int64_t disk_bytes(const CalibrationWindows& windows, bool feedback, const Model& model,
                   const ArtifactLayout& layout, const Plan& plan) {
  const int64_t tokens = windows.empty() ? 0 : windows.ids.numel();
  const int64_t ids = tokens * static_cast<int64_t>(sizeof(int64_t));
  const int64_t rounded = feedback ? windows.split.calibrated * windows.ids.size(1) : 0;
  const int64_t stream = (tokens + rounded) * model.hidden_size() * static_cast<int64_t>(sizeof(float));
  const auto document = static_cast<int64_t>(layout.state().dump().size()) +
                        kReportBytesPerTensor * static_cast<int64_t>(plan.tensors.size());
  int64_t output = document;  // report.json says what the state's document says
  for (const auto& [name, bytes] : plan.files) output += bytes.value_or(0);
  return ids + 2 * document + layout.tensor_bytes() + stream + std::max(stream, output);
}

void warn_of_limits(const std::string& output, Plan& plan) {
  const int64_t memory = available_memory_bytes();
  if (memory >= 0 && plan.peak_memory_bytes > memory) {
    plan.warnings.push_back("about " + format_bytes(plan.peak_memory_bytes) + " of memory are needed; " +
                            format_bytes(memory) + " are available");
  }
  std::error_code failed;
  const std::filesystem::path parent = std::filesystem::absolute(output).parent_path();
  const std::filesystem::space_info space = std::filesystem::space(parent, failed);
  if (!failed && static_cast<uint64_t>(plan.disk_bytes) > space.available) {
    plan.warnings.push_back("about " + format_bytes(plan.disk_bytes) +
                            " of disk space are needed while writing; " +
                            format_bytes(static_cast<int64_t>(space.available)) + " are free");
  }
}

}  // namespace

Plan plan_run(const RunOptions& run_options, const Recipe& recipe, Progress& progress, int processes) {
  RunOptions options = run_options;
  options.device = at::kMeta;
  Plan plan;
  plan.recipe = recipe.to_json();
  plan.output = options.output;
  check_output(options.output, options.force);
  const OpenModel open = open_float_model(options, recipe);
  plan.warnings = open.checkpoint->warnings();
  say_once(open.model->warnings(), plan.warnings);
  Model& model = *open.model;
  const BlockPass pass(recipe, options.seed);
  pass.check_patterns(open.source->names());
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of_run(options, open, plan.warnings);
  const std::vector<int64_t> eval_ids = read_eval_text(options, tokenizer.get(), model, plan.warnings);
  const RunCompanions companions = companions_of_run(options, open, plan.warnings);
  plan.source = source_json(options, open);
  plan.source_bytes = plan.source["bytes"].get<int64_t>();
  const CalibrationWindows windows = calibration_windows(options, recipe, model, tokenizer.get(),
                                                         pass.needs_data(model), progress, plan.warnings);
  plan.calibration = windows.json;

  ArtifactLayout layout(options.max_shard_bytes);
  std::vector<RunCost> costs = costs_of(
      model, windows_of_run(options, recipe, windows, eval_ids, window_length(recipe, model)), processes);
  const int64_t calibrated = windows.empty() ? 0 : windows.split.calibrated * windows.ids.size(1);  // tokens
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    const BlockPlan steps = pass.plan(*block, calibrated);
    layout.add(*block);
    for (RunCost& cost : costs) cost.add(*block, steps);
    for (const Weight* weight : block->weights()) plan.tensors.push_back(plan_row(*weight, *open.source));
    for (const Site* site : block->sites()) {
      if (site->is_listed()) plan.sites.push_back(plan_site(block->prefix(), *site));
    }
    append(plan.fallbacks, steps.remarks.fallbacks);
    append(plan.decisions, steps.remarks.decisions);
    say_once(steps.warnings, plan.warnings);
    plan.at_most = plan.at_most || steps.at_most;
  }
  for (Weight* weight : model.outer_weights()) {
    const Weight written = outer_weight_as_written(*weight, model, recipe, plan.decisions);
    layout.add(written);
    plan.tensors.push_back(plan_row(written, *open.source));
  }
  add_files(open, companions, layout, plan);
  plan.processes = processes;
  plan.hidden_states_in_file = options.hidden_states_in_file;
  for (const RunCost& cost : costs) {
    plan.operations = std::max(plan.operations, cost.operations());
    plan.peak_memory_bytes = std::max(plan.peak_memory_bytes, cost.peak_bytes());
  }
  plan.disk_bytes = disk_bytes(windows, recipe.feedback.is_on(), model, layout, plan);
  for (const auto* notes : {&open.checkpoint->notes(), &model.notes()})
    plan.notes.insert(plan.notes.end(), notes->begin(), notes->end());
  if (options.strict) refuse_fallbacks(plan.fallbacks, plan.warnings);
  warn_of_limits(options.output, plan);
  return plan;
}

OpenModel planned_output(const RunOptions& run_options, const Recipe& recipe) {
  RunOptions options = run_options;
  options.device = at::kMeta;
  OpenModel open = open_float_model(options, recipe);
  const auto pass = std::make_shared<BlockPass>(recipe, options.seed);
  // How much text there is changes remarks, and no scheme.
  const Model::OnLoad as_planned = [pass](Block& block) { pass->plan(block, /*calibration_tokens=*/0); };
  open.model = open.architecture->make(*open.source, as_planned);
  open.quantized = true;
  return open;
}

}  // namespace ptq
