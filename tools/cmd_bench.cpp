// quantize bench: how fast models run and what memory they take, side by side.
//
// Every model runs in a process of its own, which is forked before libtorch has threads. The processes are
// asked for one repeat each in turn, the machine's own rates among them: what slows the machine down for a
// while slows all of them down, and medians can be compared. While one measures, the others wait.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>

#include "bench_subjects.h"
#include "bench_worker.h"
#include "commands.h"
#include "ptq/base/interrupt.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

// {"median":, "min":, "max":}
Json spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {{"median", median}, {"min", values.front()}, {"max", values.back()}};
}

double median(const Json& of) {
  return of["median"].get<double>();
}

// Of `repeats`, what `rate` makes of each.
template <typename Rate>
Json spread_of(const std::vector<Json>& repeats, const Rate& rate) {
  std::vector<double> values;
  for (const Json& repeat : repeats) values.push_back(rate(repeat));
  return spread(std::move(values));
}

Json machine_json(const std::vector<Json>& repeats) {
  Json json = Json::object();
  for (const char* name : {"read_gb_per_second", "integer_gop_per_second"})
    json[name] = spread_of(repeats, [&](const Json& repeat) { return repeat[name].get<double>(); });
  return json;
}

Json model_json(const BenchOptions& options, const std::string& path, const Json& about,
                const std::vector<Json>& repeats, const Json& machine) {
  const auto batch = static_cast<double>(options.batch);
  const double prompt = batch * static_cast<double>(options.prompt),
               steps = static_cast<double>(options.generate);
  const auto per_second = [&](const char* seconds, double amount) {
    return spread_of(repeats, [&](const Json& repeat) { return amount / repeat[seconds].get<double>(); });
  };
  Json json = {{"name", path},
               {"compute", about["compute"]},
               {"load_ms", about["load_ms"]},
               {"prefill_tokens_per_second", per_second("prefill_seconds", prompt)},
               {"first_token_ms",
                spread_of(repeats, [](const Json& r) { return r["prefill_seconds"].get<double>() * 1e3; })},
               {"decode_tokens_per_second", per_second("decode_seconds", batch * steps)},
               {"peak_rss_bytes", repeats.back()["peak_rss_bytes"]},
               {"step_bytes", about["step_bytes"]},
               {"library_calls", about["library_calls"]}};
  const double bytes = about["step_bytes"].get<double>(), parameters = about["parameters"].get<double>();
  json["step_gb_per_second"] = per_second("decode_seconds", bytes * steps / 1e9);
  json["of_read"] = median(json["step_gb_per_second"]) / median(machine["read_gb_per_second"]);
  json["prefill_gop_per_second"] = per_second("prefill_seconds", 2 * parameters * prompt / 1e9);
  json["of_integer"] = median(json["prefill_gop_per_second"]) / median(machine["integer_gop_per_second"]);
  return json;
}

// How many times the first model's, of each.
void add_ratios(Json& models) {
  for (Json& model : models) {
    const Json& first = models.front();
    const auto ratio = [&](const char* name) { return median(model[name]) / median(first[name]); };
    model["relative"] = {
        {"prefill", ratio("prefill_tokens_per_second")},
        {"decode", ratio("decode_tokens_per_second")},
        {"peak_rss", model["peak_rss_bytes"].get<double>() / first["peak_rss_bytes"].get<double>()}};
  }
}

std::string range_text(const Json& of, int digits) {
  return format_number(median(of), digits) + " (" + format_number(of["min"].get<double>(), digits) + "-" +
         format_number(of["max"].get<double>(), digits) + ")";
}

std::string ratio_text(const Json& ratio) {
  return format_number(ratio.get<double>(), 2) + "x";
}

std::string result_text(const Json& json) {
  const Json& machine = json["machine"];
  std::vector<std::vector<std::string>> speeds, costs;
  for (const Json& model : json["models"]) {
    const Json& relative = model["relative"];
    std::string name = model["name"].get<std::string>();
    if (model["compute"] == kComputeInInt8) name += " (int8)";
    speeds.push_back({name, range_text(model["prefill_tokens_per_second"], 1),
                      ratio_text(relative["prefill"]), range_text(model["decode_tokens_per_second"], 1),
                      ratio_text(relative["decode"]), range_text(model["first_token_ms"], 1)});
    costs.push_back({name, format_bytes(model["peak_rss_bytes"].get<int64_t>()),
                     ratio_text(relative["peak_rss"]), format_bytes(model["step_bytes"].get<int64_t>()),
                     format_number(median(model["step_gb_per_second"]), 2),
                     format_number(model["of_read"].get<double>() * 100, 1) + " %",
                     format_number(median(model["prefill_gop_per_second"]), 1),
                     format_number(model["of_integer"].get<double>() * 100, 1) + " %",
                     std::to_string(model["library_calls"]["count"].get<int64_t>()),
                     format_number(model["library_calls"]["share"].get<double>() * 100, 1) + " %"});
  }
  return fmt::format("{} repeats, median (least-most); {} texts of {} tokens and {} more; {} threads, {}\n\n",
                     json["repeat"].get<int64_t>(), json["batch"].get<int64_t>(),
                     json["prompt"].get<int64_t>(), json["generate"].get<int64_t>(),
                     json["program"]["threads"].get<int>(), json["program"]["isa"].get<std::string>()) +
         text_table({"model", "prefill tokens/s", "", "decode tokens/s", "", "first token ms"}, speeds) +
         "\n" +
         text_table({"model", "peak memory", "", "read a step", "GB/s", "of memory", "prefill GOP/s",
                     "of product", "libtorch calls a step", "of time"},
                    costs) +
         fmt::format(
             "\nmachine: reads {} GB/s from memory; the program's product of 8-bit codes in caches {} "
             "GOP/s\n",
             range_text(machine["read_gb_per_second"], 1), range_text(machine["integer_gop_per_second"], 0));
}

// A model computes past its limit, but nobody runs it there.
void warn_of_limit(const BenchOptions& options, const std::string& path, const Json& about) {
  const int64_t limit = about["context_limit"].get<int64_t>(), total = options.prompt + options.generate;
  if (limit <= 0 || total <= limit) return;
  spdlog::warn(
      "{}: {} tokens of prompt and {} more are {}; the model was trained for {} "
      "(max_position_embeddings)",
      path, options.prompt, options.generate, total, limit);
}

// One model suffices: the others may be those that it is compared with.
void expect_int8(const BenchOptions& options, const std::deque<BenchWorker>& workers) {
  const auto in_int8 = [](const BenchWorker& worker) { return worker.about()["compute"] == kComputeInInt8; };
  if (options.compute != kComputeInInt8 || std::any_of(workers.begin(), workers.end(), in_int8)) return;
  std::string models;
  for (const std::string& path : options.models) models += (models.empty() ? "" : ", ") + path;
  throw_nothing_to_round(models);
}

}  // namespace

void bench_command(const BenchOptions& options, const CommonOptions& common) {
  Progress progress(common.status_line, common.quiet ? ProgressStyle::kQuiet : ProgressStyle::kNormal);
  const auto count = static_cast<int64_t>(options.models.size());
  std::deque<BenchWorker> workers;  // the machine's is the last
  for (const std::string& path : options.models) {
    throw_if_interrupted();
    // Options of a checkpoint are for the first, as in `eval --against`.
    const CheckpointOptions checkpoint = workers.empty() ? common.checkpoint : CheckpointOptions();
    workers.emplace_back(path, [&] { return model_subject(options, path, checkpoint, common); });
    warn_of_limit(options, path, workers.back().about());
  }
  expect_int8(options, workers);
  workers.emplace_back("the machine", machine_subject);

  progress.start("measuring", options.repeat * count);
  std::vector<std::vector<Json>> repeats(workers.size());
  for (int64_t i = 0; i < options.repeat; ++i) {
    for (size_t j = 0; j < workers.size(); ++j) {
      throw_if_interrupted();
      repeats[j].push_back(workers[j].measure());
      if (j + 1 < workers.size()) progress.advance();
    }
  }
  progress.finished();

  const Json machine = machine_json(repeats.back());
  Json models = Json::array();
  for (size_t j = 0; j + 1 < workers.size(); ++j)
    models.push_back(model_json(options, options.models[j], workers[j].about(), repeats[j], machine));
  add_ratios(models);
  const Json json = {{"program", program_json()}, {"prompt", options.prompt}, {"generate", options.generate},
                     {"batch", options.batch},    {"repeat", options.repeat}, {"seed", options.seed},
                     {"machine", machine},        {"models", models}};
  print(common.json ? json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n" : result_text(json));
}

}  // namespace ptq
