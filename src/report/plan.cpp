#include "ptq/report/plan.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

namespace ptq {
namespace {

Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

Json row_json(const PlanRow& row) {
  return {{"name", row.name},
          {"role", row.role},
          {"shape", row.shape},
          {"dtype", row.dtype},
          {"action", row.rounded ? "round" : "keep"},
          {"bits", row.bits},
          {"granularity", or_null(row.granularity)},
          {"group", row.group ? Json(*row.group) : Json(nullptr)},
          {"bytes", row.bytes}};
}

// "model.layers.17.mlp" -> "model.layers.*.mlp".
std::string without_numbers(const std::string& name) {
  std::string pattern;
  for (const char c : name) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    const bool whole = pattern.empty() || pattern.back() == '.' || pattern.back() == '*';
    if (!digit || !whole) {
      pattern += c;
    } else if (pattern.empty() || pattern.back() != '*') {
      pattern += '*';
    }
  }
  return pattern;
}

std::string action_text(const PlanRow& row) {
  if (!row.rounded) return "keep " + row.dtype;
  std::string text =
      row.dtype + " -> " + format_number(row.bits, 0) + " bits, one scale a " + row.granularity;
  if (row.group) text += " of " + std::to_string(*row.group);
  return text;
}

std::string tensor_table(const std::vector<PlanRow>& tensors) {
  struct Group {
    std::string name;
    PlanRow row;
    int64_t count = 0, bytes = 0;
  };
  std::vector<Group> groups;
  for (const PlanRow& row : tensors) {
    const std::string name = without_numbers(row.name);
    auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return group.name == name && group.row.shape == row.shape && action_text(group.row) == action_text(row);
    });
    if (same == groups.end()) same = groups.insert(groups.end(), {name, row});
    ++same->count;
    same->bytes += row.bytes;
  }
  std::vector<std::vector<std::string>> rows;
  for (const Group& group : groups) {
    const std::string& name = group.count == 1 ? group.row.name : group.name;
    rows.push_back({name, std::to_string(group.count), Json(group.row.shape).dump(), action_text(group.row),
                    format_bytes(group.bytes)});
  }
  return text_table({"tensor", "count", "shape", "action", "bytes"}, rows);
}

// "1.2e+12".
std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1e", value);
  return text;
}

}  // namespace

Json to_json(const Plan& plan) {
  Json tensors = Json::array(), sites = Json::array(), files = Json::object();
  for (const PlanRow& row : plan.tensors) tensors.push_back(row_json(row));
  for (const PlanSite& site : plan.sites) {
    sites.push_back({{"name", site.name},
                     {"quantizer", site.quantizer},
                     {"bits", site.bits ? Json(*site.bits) : Json(nullptr)},
                     {"transform", or_null(site.transform)}});
  }
  for (const auto& [name, bytes] : plan.files) files[name] = bytes ? Json(*bytes) : Json(nullptr);
  return {{"source", plan.source},
          {"recipe", plan.recipe},
          {"calibration", plan.calibration},
          {"tensors", tensors},
          {"sites", sites},
          {"output",
           {{"path", plan.output},
            {"bytes", plan.output_bytes},
            {"at_most", plan.at_most},
            {"bits_per_weight", plan.bits_per_weight},
            {"files", files}}},
          {"processes", plan.processes},
          {"peak_memory_bytes", plan.peak_memory_bytes},
          {"hidden_states", plan.hidden_states_in_file ? "file" : "memory"},
          {"disk_bytes", plan.disk_bytes},
          {"operations", plan.operations},
          {"fallbacks", to_json(plan.fallbacks)},
          {"decisions", to_json(plan.decisions)},
          {"notes", plan.notes},
          {"warnings", plan.warnings}};
}

std::string plan_text(const Plan& plan) {
  std::string text = tensor_table(plan.tensors);
  text += "\n" + plan.source["name"].get<std::string>() + " -> " + plan.output + "\n";
  text += "  method        " + plan.recipe["method"].get<std::string>() + " " +
          plan.recipe["bits"].get<std::string>() + plan.recipe["base"].get<std::string>() + "\n";
  text += "  size          " + format_bytes(plan.source_bytes) + " -> " + (plan.at_most ? "at most " : "") +
          format_bytes(plan.output_bytes) + " (" +
          format_number(static_cast<double>(plan.output_bytes) / static_cast<double>(plan.source_bytes), 3) +
          " of the source, " + format_number(plan.bits_per_weight, 2) + " bits a weight)\n";
  text += "  calibration   ";
  if (!plan.calibration.empty()) {
    text += std::to_string(plan.calibration["samples"].get<int64_t>()) + " x " +
            std::to_string(plan.calibration["seq_len"].get<int64_t>()) + " tokens, " +
            plan.calibration["source"].get<std::string>() + "\n";
  } else {
    text += "none is needed; quality is measured if --eval-text or --calib asks for it\n";
  }
  const std::string each =
      plan.processes > 1 ? ", each of " + std::to_string(plan.processes) + " processes at most" : "";
  text += "  operations    " + scientific(plan.operations) + each + "\n";
  text += "  peak memory   about " + format_bytes(plan.peak_memory_bytes) + each +
          (plan.hidden_states_in_file ? ", with hidden states in a file\n" : "\n");
  text += "  disk          about " + format_bytes(plan.disk_bytes) + " while it runs\n";
  for (const std::string& note : plan.notes) text += "  note          " + note + "\n";
  text += fallback_text(plan.fallbacks) + decision_text(plan.decisions) + warning_text(plan.warnings);
  return text;
}

}  // namespace ptq
