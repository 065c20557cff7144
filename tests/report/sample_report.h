// A small report with a value in every field.
#pragma once

#include "ptq/report/report.h"

namespace ptq {

inline Report full_report() {
  Report report;
  report.program = {{"name", "quantize"}, {"version", "1"}, {"git", "abc"},
                    {"torch", "2"},       {"isa", "avx2"},  {"threads", 2}};
  report.source = {{"name", "m.pt"}, {"architecture", "mamba"}, {"parameters", 10},
                   {"dtype", "F16"}, {"bytes", 1000},           {"files", {{"m.pt", "00ff"}}}};
  report.recipe = {{"method", "quamba"},
                   {"bits", "w8a8"},
                   {"base", ""},
                   {"families", {"ssm"}},
                   {"steps", Json::array({{{"step", "rtn"}, {"bits", 8}}})},
                   {"skip", Json::array()},
                   {"embedding", "float"},
                   {"samples", 8},
                   {"seq_len", 64}};
  report.calibration = {{"source", "a.txt"}, {"samples", 8},  {"seq_len", 64},
                        {"kept_aside", 1},   {"tokens", 512}, {"seed", 0}};
  report.layers = {{"l.in", "linear", {4, 2}, 8, "tensor", std::nullopt, 40.0, 20.0, 0.01},
                   {"l.out", "linear", {2, 4}, 4, "group", 128, 30.0, 10.0, 0.03},
                   {"l.conv", "conv", {4, 1, 4}, 16, "", std::nullopt, std::nullopt, std::nullopt}};
  report.sites = {{"l.sites.x",
                   "linear_input",
                   "static",
                   0.01,
                   0.9999,
                   1.5,
                   0.0001,
                   8,
                   9.5,
                   1.5,
                   "rotation(4)",
                   {12},
                   1e-7},
                  {"l.sites.y", "internal", "dynamic", {}, {}, {}, {}, 4, 2.5, 2.5, "", {}, {}}};
  report.blocks = {{0, 30.0, 0.5, 0.001}};
  report.quality = Quality{"a.txt", 63, 10.0, 11.0, 0.01, 0.9};
  report.output_bytes = 500;
  report.bits_per_weight = 8.25;
  report.output_files = {{"model.safetensors", 500}};
  report.time_ms = {{"write", 1500.04}, {"quality", 500}};
  report.peak_rss_bytes = 1 << 20;
  return report;
}

// The same with another value than the default in every field of the report and of its first rows.
inline Report filled_report() {
  Report report = full_report();
  report.layers[0].group = 128;
  report.layers[0].correction =
      CorrectionRow{32, "exact", 4.0, 1.0, 0.25, 2, "int8", 64, 0.5, RivalBase{"int4-g32", 4.5, 0.75}};
  report.blocks[0].index = 3;
  report.fallbacks = {{"a", "b", "c"}};
  report.decisions = {{"d", "e", "f"}};
  report.correction_bytes = 64;
  report.bits_per_weight_without_correction = 7.75;
  report.time_ms = {{"write", 1500.0}};
  report.loads_in = {{"llama.cpp", "gguf"}};
  report.routing = {{"model.layers.0", {7, 0}, 0.25}};
  report.warnings = {"w"};
  return report;
}

}  // namespace ptq
