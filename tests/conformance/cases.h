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

inline std::vector<Case> all_cases(const std::vector<size_t>& sizes) {
  std::vector<Case> cases;
  for (const ArchitectureEntry& architecture : architectures()) {
    for (const MethodEntry& method : methods()) {
      if (!architecture.is_among(method.families)) continue;
      for (const std::string& bits : method.bits) {
        for (const size_t size : sizes) cases.push_back({&architecture, &method, bits, size});
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
  for (const Toy& toy : kToys) {
    if (std::string(toy.architecture) == test.architecture->name) return toy.make(test.size);
  }
  throw std::runtime_error(std::string("no toy model for the architecture ") + test.architecture->name +
                           ": it wants a row in kToys (tests/conformance/workbench.h)");
}

}  // namespace ptq
