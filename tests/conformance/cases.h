// Every method at every bit width it supports on a toy model of every architecture.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "ptq/method/recipe.h"
#include "ptq/model/model.h"
#include "workbench.h"

namespace ptq {

struct Case {
  const ArchitectureEntry* architecture;
  const MethodEntry* method;
  std::string bits;
  size_t size;

  friend void PrintTo(const Case& test, std::ostream* out) {
    *out << test.architecture->name << " " << test.method->name << " " << test.bits << " size " << test.size;
  }
};

// Of the golden models, either every bit width of a method or the first alone: what does not depend on the
// architecture is tried on the first three.
enum class OfGolden { kEveryWidth, kFirstWidth };

inline std::vector<Case> all_cases(const std::vector<size_t>& sizes,
                                   OfGolden golden = OfGolden::kFirstWidth) {
  std::vector<Case> cases;
  for (const ArchitectureEntry& architecture : architectures()) {
    const size_t there = toy_for(architecture.name).sizes;
    const bool is_golden = toy_for(architecture.name).lost_db > 0;
    for (const MethodEntry& method : methods()) {
      if (!architecture.is_among(method.families)) continue;
      for (const std::string& bits : method.bits) {
        if (is_golden && golden == OfGolden::kFirstWidth && bits != method.bits.front()) continue;
        std::vector<size_t> kept = sizes;
        std::erase_if(kept, [there](size_t size) { return size >= there; });
        if (kept.empty()) kept = {0};
        for (const size_t size : kept) cases.push_back({&architecture, &method, bits, size});
      }
    }
  }
  return cases;
}

inline std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  std::string name = std::string(info.param.architecture->name) + "_" + info.param.method->name + "_" +
                     info.param.bits + "_size" + std::to_string(info.param.size);
  std::ranges::replace_if(name, [](char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

inline ToyModel toy_of(const Case& test) {
  return toy_for(test.architecture->name).make(test.size);
}

}  // namespace ptq
