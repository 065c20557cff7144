// The duquant method against runs of its authors' code in golden/duquant.
//
// A case is a NAME.json with a NAME.safetensors. Its sort is the name up to the first `_`, or else what its
// `kind` begins with, so that a further case of a known form runs under any name. Sorts without a row below
// are printed as skipped and do not count.
#include <cstdio>
#include <exception>

#include "duquant_units.h"
#include "golden.h"

namespace {

namespace golden = ptq::golden;

struct Sort {
  const char* name;
  const char* kind;
  void (*run)(const std::filesystem::path& json_path, golden::Checks& checks);
};

constexpr Sort kSorts[] = {
    {"d1", "unit vectors", golden::run_duquant_units},
    {"d2", "smoothing", golden::run_smoothing_case},
    {"d3", "tiny Llama", golden::run_llama_case},
    {"d4", "tiny Llama", golden::run_llama_case},
};

// Null if there is none.
const Sort* find_sort(const std::filesystem::path& path) {
  const std::string name = path.stem().string();
  for (const Sort& sort : kSorts) {
    if (name.substr(0, name.find('_')) == sort.name) return &sort;
  }
  const ptq::Json json = ptq::read_json_file(path.string());
  for (const Sort& sort : kSorts) {
    if (json.is_object() && json.value("kind", "").starts_with(sort.kind)) return &sort;
  }
  return nullptr;
}

// Whether the case passed.
bool run_case(const Sort& sort, const std::filesystem::path& path) {
  golden::Checks checks(path.stem().string());
  try {
    sort.run(path, checks);
  } catch (const std::exception& error) {
    checks.expect(false, error.what());
  }
  std::printf("%s: %zu comparisons, %zu failed\n", checks.name().c_str(), checks.count(), checks.failed());
  return checks.failed() == 0 && checks.count() > 0;
}

}  // namespace

int main() {
  size_t ran = 0;
  size_t failed = 0;
  for (const auto& path : golden::case_files(golden::directory("duquant"))) {
    const Sort* sort = find_sort(path);
    if (sort == nullptr) {
      std::printf("skipped %s\n", path.stem().c_str());
      continue;
    }
    ++ran;
    if (!run_case(*sort, path)) ++failed;
  }
  std::printf("ran %zu cases, %zu failed\n", ran, failed);
  if (ran == 0) std::printf("no case was found\n");
  return ran == 0 || failed > 0 ? 1 : 0;
}
