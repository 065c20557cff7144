// The commands on reports: check, diff and report. See commands.h.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "commands.h"

namespace ptq {

struct CheckOptions {
  std::string report;
  std::string baseline;
  std::vector<std::vector<std::string>> values;  // of each row of threshold_options()
  std::string junit;
  bool annotate = false;
  bool force = false;
};

struct DiffOptions {
  std::string a, b;
};

struct ReportOptions {
  std::string report;
  std::string html;
  bool force = false;
};

// Prints the verdicts. Throws Error with exit code kThresholdMissed if one is not met.
void check_command(const CheckOptions& options, const CommonOptions& common);
void diff_command(const DiffOptions& options, const CommonOptions& common);
void report_command(const ReportOptions& options, const CommonOptions& common);

// Their options, for the table of commands.
std::function<void()> declare_check(CLI::App& app, CommonOptions& common);
std::function<void()> declare_diff(CLI::App& app, CommonOptions& common);
std::function<void()> declare_report(CLI::App& app, CommonOptions& common);

}  // namespace ptq
