// The quamba method against runs of its authors' code in golden/quamba.
//
// A case is a NAME.json, mostly with a NAME.safetensors. Its sort is the name up to the first `_`, without
// the letter at its end: g1a_paper_d64 is of sort g1. Sorts without a row below are printed as skipped and do
// not count.
#include <cctype>
#include <cstdio>
#include <exception>

#include "golden.h"
#include "quamba_checks.h"

namespace {

namespace golden = ptq::golden;

struct Sort {
  const char* name;
  void (*run)(const std::filesystem::path& json_path, golden::Checks& checks);
};

constexpr Sort kSorts[] = {
    {"g1", golden::run_paper_case},
    {"g4", golden::run_units},
};

std::string sort_of(const std::string& case_name) {
  std::string sort = case_name.substr(0, case_name.find('_'));
  if (sort.size() > 1 && std::isalpha(static_cast<unsigned char>(sort.back())) != 0) sort.pop_back();
  return sort;
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
  for (const auto& path : golden::case_files(golden::directory("quamba"))) {
    const std::string name = path.stem().string();
    const Sort* found = nullptr;
    for (const Sort& sort : kSorts) {
      if (sort_of(name) == sort.name) found = &sort;
    }
    if (found == nullptr) {
      std::printf("skipped %s\n", name.c_str());
      continue;
    }
    ++ran;
    if (!run_case(*found, path)) ++failed;
  }
  std::printf("ran %zu cases, %zu failed\n", ran, failed);
  if (ran == 0) std::printf("no case was found\n");
  return ran == 0 || failed > 0 ? 1 : 0;
}
