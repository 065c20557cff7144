// The quamba method against runs of its authors' code in golden/quamba.
//
// A case is a NAME.json, mostly with a NAME.safetensors. Its sort is the name up to the first `_`, without
// the letter at its end: g1a_paper_d64 is of sort g1. Sorts without a row below are printed as skipped and do
// not count.
#include <cctype>

#include "quamba_cases.h"

namespace {

namespace golden = ptq::golden;

struct Sort {
  const char* name;
  golden::RunCase run;
};

constexpr Sort kSorts[] = {
    {"g1", golden::run_paper_case},
    {"g3", golden::run_mamba2_case},
    {"g4", golden::run_quamba_units},
};

// Null if there is none.
golden::RunCase find_case(const std::filesystem::path& path) {
  const std::string name = path.stem().string();
  std::string wanted = name.substr(0, name.find('_'));
  if (wanted.size() > 1 && std::isalpha(static_cast<unsigned char>(wanted.back())) != 0) wanted.pop_back();
  for (const Sort& sort : kSorts) {
    if (wanted == sort.name) return sort.run;
  }
  return nullptr;
}

}  // namespace

int main() {
  return golden::run_cases("quamba", find_case);
}
