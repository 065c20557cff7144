// The qera method against its authors' code and float64 references in golden/qera.
//
// A case is a NAME.json, most with a NAME.safetensors. Its sort is what its name begins with; others are
// printed as skipped and do not count.
#include "qera_cases.h"

namespace {

namespace golden = ptq::golden;

struct Sort {
  const char* name;
  golden::RunCase run;
};

constexpr Sort kSorts[] = {
    {"q1", golden::run_qera_formats},
    {"q2", golden::run_qera_factors},
    {"q3", golden::run_qera_peft},
};

golden::RunCase find_case(const std::filesystem::path& path) {
  for (const Sort& sort : kSorts) {
    if (path.stem().string().starts_with(sort.name)) return sort.run;
  }
  return nullptr;
}

}  // namespace

int main() {
  return golden::run_cases("qera", find_case);
}
