// Logits of whole models against those of transformers in float32.
//
// golden/models/NAME.safetensors holds `input_ids` [batch, length] and `logits` [batch, length, vocab], or
// `logits_at_positions` [batch, positions, vocab] with `positions`. The model is $PTQ_MODELS_DIR/NAME or
// tests/data/NAME: a directory with a config.json, or with a bare model.pt. golden/models/tiny/NAME and
// golden/models/families/NAME hold model and `expected.safetensors` together, and may hold the configuration in
// its published spelling, config-published.json, which must give the same logits. A model that the program lacks
// must be on the list of those, and must be refused; one that is absent must be on the list of those that may
// be.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "golden.h"
#include "ptq/base/error.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/engine/decoder.h"
#include "ptq/model/model.h"

namespace {

namespace fs = std::filesystem;
using ptq::Tensor;

constexpr double kLogitTolerance = 2e-4;   // absolute, against another program
constexpr double kDecodeTolerance = 2e-4;  // absolute, of one token after another against all at once

// What the names of models begin with whose architectures the program lacks.
constexpr const char* kUnsupported[] = {"families/zamba2"};
// The same of models too large to lie among the others.
constexpr const char* kMayBeAbsent[] = {"smollm2-135m"};

bool listed(const auto& names, const std::string& name) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](const char* start) { return name.starts_with(start); });
}

struct Case {
  std::string name;
  fs::path expected;
  fs::path model;        // empty: not found
  fs::path config = {};  // empty: the one beside the model
};

// What open_checkpoint() takes for the model in a directory; empty if there is none.
fs::path model_in(const fs::path& directory) {
  if (fs::exists(directory / "config.json")) return directory;
  if (fs::exists(directory / "model.pt")) return directory / "model.pt";
  return {};
}

fs::path find_model(const std::string& name) {
  if (const char* chosen = std::getenv("PTQ_MODELS_DIR"); chosen != nullptr && *chosen != '\0') {
    if (const fs::path model = model_in(fs::path(chosen) / name); !model.empty()) return model;
  }
  return model_in(fs::path(PTQ_TEST_DIR).parent_path() / "data" / name);
}

std::vector<Case> find_cases(const fs::path& directory) {
  std::vector<Case> cases;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const fs::path& path = entry.path();
    if (path.extension() != ".safetensors") continue;
    cases.push_back({path.stem().string(), path, find_model(path.stem().string())});
  }
  for (const char* group : {"tiny", "families"}) {
    for (const auto& entry : fs::directory_iterator(directory / group, error)) {
      const fs::path expected = entry.path() / "expected.safetensors";
      const std::string name = std::string(group) + "/" + entry.path().filename().string();
      if (!fs::exists(expected)) continue;
      cases.push_back({name, expected, model_in(entry.path())});
      const fs::path published = entry.path() / "config-published.json";
      if (fs::exists(published)) cases.push_back({name, expected, model_in(entry.path()), published});
    }
  }
  std::stable_sort(cases.begin(), cases.end(), [](const Case& a, const Case& b) { return a.name < b.name; });
  return cases;
}

Tensor read(const ptq::Checkpoint& file, const char* name) {
  return ptq::as_tensor(file.read(name)).clone();
}

double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) throw std::runtime_error("the logits have another shape");
  if (!at::isfinite(a).all().item<bool>()) throw std::runtime_error("a logit is NaN or infinite");
  return (a - b).abs().max().item<double>();
}

Tensor logits_of(const ptq::Model& model, const Tensor& ids) {
  Tensor hidden = model.embed(ids);
  for (int64_t i = 0; i < model.num_blocks(); ++i) hidden = model.load_block(i)->forward(hidden);
  return model.logits(hidden);
}

// The ids in steps of one token, then two, then one...: logits after each step against those of all at once.
double decoding_difference(const ptq::Model& model, const Tensor& ids, const Tensor& logits) {
  ptq::Decoder decoder(model, ids.size(0), {.text_length = ids.size(1)});
  double largest = 0;
  int64_t step = 1;
  for (int64_t begin = 0; begin < ids.size(1); begin += step, step = 3 - step) {
    step = std::min(step, ids.size(1) - begin);
    const Tensor last = decoder.advance(ids.slice(1, begin, begin + step));
    largest = std::max(largest, largest_difference(last, logits.select(1, begin + step - 1)));
  }
  return largest;
}

// Whether both differences are within their tolerances.
bool run_case(const Case& test, const ptq::Model& model) {
  const auto expected = ptq::open_checkpoint(test.expected.string());
  const Tensor ids = read(*expected, "input_ids").to(at::kLong);
  const Tensor logits = logits_of(model, ids);
  const bool whole = expected->find("logits") != nullptr;
  const Tensor compared =
      whole ? logits : logits.index_select(1, read(*expected, "positions").to(at::kLong).flatten());
  const double error =
      largest_difference(compared, read(*expected, whole ? "logits" : "logits_at_positions"));
  const double decoding = decoding_difference(model, ids, logits);
  const bool passed = error <= kLogitTolerance && decoding <= kDecodeTolerance;
  std::printf("%s%s%s: logits differ by %.2e, decoding with state by %.2e\n", passed ? "" : "FAILED ",
              test.name.c_str(), test.config.empty() ? "" : " (published configuration)", error, decoding);
  return passed;
}

// Whether the program does with the model what it should: compute its logits, or refuse it if it is listed.
bool check_case(const Case& test) {
  ptq::CheckpointOptions options;
  options.config_path = test.config.string();
  const auto checkpoint = ptq::open_checkpoint(test.model.string(), options);
  const ptq::FloatSource source(*checkpoint, at::kCPU);
  const ptq::ArchitectureEntry* entry = ptq::match_architecture(source);
  const bool unsupported = listed(kUnsupported, test.name);
  if (unsupported && entry == nullptr) {
    std::printf("refused %s, which is not supported\n", test.name.c_str());
    return true;
  }
  if (unsupported || entry == nullptr) {
    std::printf(
        "FAILED %s: %s\n", test.name.c_str(),
        entry == nullptr ? "is not recognised" : "is on the list of what is not supported, and taken");
    return false;
  }
  ptq::expect_all_read(*entry, source, test.name);
  return run_case(test, *entry->make(source));
}

}  // namespace

int main() {
  size_t ran = 0, refused = 0, absent = 0, failed = 0;
  for (const Case& test : find_cases(ptq::golden::directory("models"))) {
    try {
      if (test.model.empty()) {
        const bool allowed = listed(kMayBeAbsent, test.name);
        std::printf("%s%s: no such model\n", allowed ? "skipped " : "FAILED ", test.name.c_str());
        ++(allowed ? absent : failed);
        continue;
      }
      const bool unsupported = listed(kUnsupported, test.name);
      if (!check_case(test)) ++failed;
      ++(unsupported ? refused : ran);
    } catch (const std::exception& error) {
      std::printf("FAILED %s: %s\n", test.name.c_str(), error.what());
      ++failed;
    }
  }
  std::printf("ran %zu models, refused %zu, skipped %zu, %zu failed\n", ran, refused, absent, failed);
  if (ran == 0) std::printf("no model was found\n");
  return ran == 0 || failed > 0 ? 1 : 0;
}
