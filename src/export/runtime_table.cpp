// What each runtime loads. Sources of the facts: the runtimes' own loaders, run on the sample models and on
// small models of random weights of each architecture (`was_run`), and their code.
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/export/runtimes.h"

namespace ptq {
namespace {

constexpr bool kRun = true, kRead = false;

const std::vector<int64_t> kMarlinGroups = {32, 64, 128};

// vLLM pads weights to Marlin's tiles, so that it takes every shape.
std::vector<RuntimeKernel> vllm_kernels() {
  const std::vector<InputForm> rounded = {InputForm::kToken, InputForm::kTensor};
  return {
      {.name = "Machete (CUDA, sm90)",
       .bits = {4, 8},
       .groups = {128},
       .in_multiple = 128,
       .out_multiple = 128},
      {.name = "Marlin (CUDA, sm75 and later)", .bits = {4, 8}, .groups = kMarlinGroups},
      {.name = "Marlin (CUDA, sm75 and later)", .bits = {4}, .zeros = true, .groups = kMarlinGroups},
      {.name = "CPU with AVX-512",
       .bits = {4},
       .zeros = true,
       .groups = kMarlinGroups,
       .in_multiple = 32,
       .out_multiple = 32},
      {.name = "Humming (CUDA)", .bits = {2, 3, 5, 6, 7}, .any_group = true},
      {.name = "Humming (CUDA)",
       .bits = {4},
       .any_group = true,
       .inputs = {InputForm::kToken},
       .input_bits = {4, 8}},
      {.name = "CUTLASS (CUDA)",
       .bits = {8},
       .inputs = rounded,
       .input_bits = {8},
       .input_zeros = true,
       .in_multiple = 16,
       .out_multiple = 16},
      {.name = "Triton (CUDA), CPU", .bits = {8}, .inputs = rounded, .input_bits = {8}},
  };
}

std::vector<RuntimeKernel> of_weights_alone(const char* name, std::vector<int> bits, bool zeros,
                                            int64_t in = 1, int64_t out = 1) {
  return {{.name = name,
           .bits = std::move(bits),
           .zeros = zeros,
           .groups = kMarlinGroups,
           .in_multiple = in,
           .out_multiple = out}};
}

RuntimeEntry vllm() {
  const std::vector<RuntimeArchitecture> dense = {{"llama", kRun},    {"gemma2", kRead}, {"gemma3", kRead},
                                                  {"granite", kRead}, {"olmo2", kRead},  {"phi3", kRead}};
  std::vector<RuntimeArchitecture> all = dense;
  for (const char* name : {"mamba2", "granite4", "falcon-h1", "nemotron-h"}) all.push_back({name, kRun});
  all.push_back({"jamba", kRun, "*.mamba.*"});
  const char* mamba = "its merged layers of a Mamba-1 mixer take no codes, and it stops while loading";
  return {
      "vllm",
      "a server for GPUs and CPUs",
      "0.33",
      "2026-11",
      {{.name = "compressed-tensors",
        .architectures = all,
        .kernels = vllm_kernels(),
        .refused = {{"mamba", mamba}, {"falcon-mamba", mamba}, {"bamba", "it has no such model since 0.24"}}},
       {.name = "gptq",
        .architectures = dense,
        .kernels = of_weights_alone("Marlin (CUDA, sm75 and later)", {4, 8}, false)},
       {.name = "awq",
        .architectures = dense,
        .kernels = of_weights_alone("Marlin (CUDA, sm75 and later)", {4}, true)}}};
}

RuntimeEntry sglang() {
  std::vector<RuntimeKernel> kernels =
      of_weights_alone("Marlin (CUDA, sm80 and later)", {4, 8}, false, 128, 64);
  kernels.push_back({.name = "int8_scaled_mm (CUDA, sm80 and later)",
                     .bits = {8},
                     .inputs = {InputForm::kToken, InputForm::kTensor},
                     .input_bits = {8},
                     .in_multiple = 16,
                     .out_multiple = 8});
  const std::vector<RuntimeArchitecture> llama = {{"llama", kRead}};
  std::vector<RuntimeArchitecture> all = llama;
  for (const char* name : {"mamba", "falcon-mamba", "mamba2", "granite4", "falcon-h1", "nemotron-h"})
    all.push_back({name, kRead});
  return {"sglang",
          "a server for GPUs",
          "0.5.23",
          "2026-11",
          {{.name = "compressed-tensors",
            .architectures = all,
            .kernels = kernels,
            .note = "static scales of inputs are not used: inputs are rounded token by token"},
           {.name = "gptq",
            .architectures = llama,
            .kernels = of_weights_alone("Marlin (CUDA, sm80 and later)", {4, 8}, false, 128, 64)},
           {.name = "awq",
            .architectures = llama,
            .kernels = of_weights_alone("Marlin (CUDA, sm80 and later)", {4}, true, 128, 64)}}};
}

// Of either format in transformers, which computes it with GPTQModel.
std::vector<RuntimeFormat> of_gptqmodel() {
  const std::vector<RuntimeArchitecture> llama = {{"llama", kRun}};
  const auto kernels = [](std::vector<int> bits, bool zeros) {
    return std::vector<RuntimeKernel>{{.name = "GPTQModel",
                                       .bits = std::move(bits),
                                       .zeros = zeros,
                                       .any_group = true,
                                       .in_multiple = 32,
                                       .out_multiple = 32}};
  };
  return {{.name = "gptq",
           .architectures = llama,
           .kernels = kernels({4, 8}, false),
           .note = "with the packages optimum and gptqmodel"},
          {.name = "awq",
           .architectures = llama,
           .kernels = kernels({4}, true),
           .note = "with the packages optimum and gptqmodel"}};
}

RuntimeEntry transformers() {
  const std::vector<int> any_bits = {2, 3, 4, 5, 6, 7, 8};
  std::vector<RuntimeArchitecture> all;
  for (const char* name :
       {"llama", "mamba", "falcon-mamba", "mamba2", "gemma2", "gemma3", "granite", "olmo2", "phi3",
        "stablelm", "opt", "jamba", "bamba", "granite4", "falcon-h1", "nemotron-h"})
    all.push_back({name, kRun});
  std::vector<RuntimeFormat> formats = {
      {.name = "compressed-tensors",
       .architectures = all,
       .kernels = {{.name = "floats", .bits = any_bits, .zeros = true, .any_group = true},
                   {.name = "floats, inputs rounded",
                    .bits = any_bits,
                    .zeros = true,
                    .any_group = true,
                    .inputs = {InputForm::kToken, InputForm::kTensor},
                    .input_bits = any_bits,
                    .input_zeros = true}},
       .one_scheme_dequantized = true,
       .note = "weights become floats when they are first used, and are no faster"},
      {.name = "bitsandbytes",
       .architectures = {{"llama", kRun}, {"mamba", kRun}},
       .kernels = {{.name = "bitsandbytes", .bits = {4}, .any_group = true}}}};
  for (RuntimeFormat& format : of_gptqmodel()) formats.push_back(std::move(format));
  return {"transformers", "the library of Hugging Face, in Python", "5.24", "2026-11", formats};
}

RuntimeEntry llama_cpp() {
  return {"llama.cpp",
          "a program for CPUs and GPUs, and what is built on it (Ollama, LM Studio)",
          "b11549",
          "2026-11",
          {{.name = "gguf",
            .architectures = {},
            .kernels = {},
            .takes_experts = true,
            .note = "rounds inputs itself, and none of them as the output does"}}};
}

RuntimeEntry gptqmodel() {
  return {"gptqmodel", "a Python package for GPTQ and AWQ", "7.7", "2026-11", of_gptqmodel()};
}

}  // namespace

const std::vector<RuntimeEntry>& runtimes() {
  static const std::vector<RuntimeEntry> entries = {vllm(), sglang(), transformers(), llama_cpp(),
                                                    gptqmodel()};
  return entries;
}

const RuntimeEntry& find_runtime(const std::string& name) {
  std::vector<std::string> names;
  for (const RuntimeEntry& entry : runtimes()) {
    if (entry.name == name) return entry;
    names.emplace_back(entry.name);
  }
  throw usage_error("--for", "\"" + name + "\" is not a program that the table knows", suggest(name, names));
}

}  // namespace ptq
