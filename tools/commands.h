// The commands of the program. Each takes its options as a struct, prints results to stdout, and returns or
// throws. quantize.cpp turns the command line into these structs.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compute_option.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/progress.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/engine/sampling.h"
#include "ptq/method/recipe.h"
#include "ptq/pipeline/run.h"

namespace ptq {

// What every command has.
struct CommonOptions {
  bool json = false;
  bool quiet = false;
  int verbose = 0;
  std::string log_file;
  int threads = 0;  // 0: as many as libtorch takes
  std::string device = "cpu";
  CheckpointOptions checkpoint;
  std::string tokenizer;
  std::string token_dtype;
  std::string text_field;
  std::shared_ptr<StatusLine> status_line;
  std::vector<std::string> words;  // of the command line, as they were typed

  at::Device torch_device() const;
};

struct QuantizeOptions {
  std::string model;
  std::string output;
  bool force = false;
  RecipeOptions recipe;
  bool print_recipe = false;
  std::vector<std::string> calibration;
  std::optional<int64_t> samples;
  std::optional<int64_t> seq_len;
  uint64_t seed = 0;
  std::string eval_text;
  std::string max_shard_size = "5GB";
  bool strict = false;
  bool resume = false;
  std::string save_every = "10s";
  std::string hidden_states = "memory";
  std::string max_memory;             // empty: PTQ_MAX_MEMORY, or no bound
  std::vector<std::string> formats;   // of exports beside the output
  std::vector<std::string> runtimes;  // that are to load the output
  bool distributed = false;           // one of several processes of the run
  int processes = 1;                  // of a plan
  std::string patience = "30s";       // --distributed-timeout
};

struct VerifyOptions {
  std::string directory;
  std::string source;
};

struct InspectOptions {
  std::string model;
  bool scan = true;
};

struct TokenizeOptions {
  std::string model;
  std::string text;
  std::string decode;
  bool add_special = true;
};

struct EvalOptions {
  std::string model;
  std::string text;
  std::vector<std::string> tasks;
  std::string against;
  std::optional<int64_t> seq_len;
  int64_t max_tokens = 0;  // 0: all
  int64_t shots = 0;
  std::string shots_from;
  std::optional<uint64_t> seed;
  int64_t limit = 0;  // 0: all
  std::string compute = kComputeInFloat;
  bool simulate = false;
  bool decode = false;
};

struct GenerateOptions {
  std::string model;
  std::optional<std::string> prompt;
  std::string prompts;
  int64_t max_tokens = 64;
  SamplingOptions sampling;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::string compute = kComputeInFloat;
};

struct BenchOptions {
  std::vector<std::string> models;
  int64_t prompt = 512;
  int64_t generate = 128;
  int64_t batch = 1;
  int64_t repeat = 5;
  uint64_t seed = 0;
  std::string compute = kComputeInFloat;
};

struct ExportOptions {
  std::string model;
  std::string format;
  std::string output;
  std::map<std::string, std::string> given;  // of the formats' own options, by name
};

struct ListOptions {
  std::string method;
  bool runtimes = false;  // the table of what loads exports, instead of the others
};

struct CompletionOptions {
  std::string shell;
};

void export_command(const ExportOptions& options, const CommonOptions& common);
void quantize_command(const QuantizeOptions& options, const CommonOptions& common);
void plan_command(const QuantizeOptions& options, const CommonOptions& common);
void verify_command(const VerifyOptions& options, const CommonOptions& common);
void list_command(const ListOptions& options, const CommonOptions& common);
void inspect_command(const InspectOptions& options, const CommonOptions& common);
void tokenize_command(const TokenizeOptions& options, const CommonOptions& common);
void eval_command(const EvalOptions& options, const CommonOptions& common);
void generate_command(const GenerateOptions& options, const CommonOptions& common);
void bench_command(const BenchOptions& options, const CommonOptions& common);
void completion_command(const CompletionOptions& options);
void man_command();

// The recipe and the options of a run. Throw usage Errors.
Recipe recipe_of_run(const QuantizeOptions& options, const CommonOptions& common);
// What --max-memory or else PTQ_MAX_MEMORY allows a run to take; none without either.
std::optional<int64_t> max_memory_bytes(const QuantizeOptions& options);
RunOptions options_of_run(const QuantizeOptions& options, const CommonOptions& common, const Recipe& recipe);

// The report's "program": name, version, git, torch, isa, threads.
Json program_json();

// Says how a checkpoint was read, and what a model's configuration asks for and is not done, which of an
// artifact was said when it was made; and whether kernels are plain loops.
void log_warnings(const OpenModel& open);

// Writes to stdout; throws Error if it cannot (a full disk, a closed pipe).
void print(const std::string& text);

}  // namespace ptq
