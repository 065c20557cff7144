#include "ptq/comm/launch.h"

#include <charconv>
#include <cstdlib>
#include <optional>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr const char* kHowToStart =
    "torchrun --nproc-per-node N --no-python quantize --distributed ..., srun quantize --distributed ..., or "
    "RANK, "
    "WORLD_SIZE, MASTER_ADDR and MASTER_PORT set for each process";
constexpr int64_t kMostProcesses = 4096;
constexpr int64_t kFirstPort = 20'000, kPorts = 40'000;  // among which jobs of SLURM choose

std::optional<std::string> variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return {};
  return value;
}

int64_t number_in(const std::string& name, const std::string& text, int64_t least, int64_t most) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, failed] = std::from_chars(text.data(), end, number);
  if (failed != std::errc() || rest != end || number < least || number > most) {
    throw usage_error(name, "\"" + text + "\" is not a number from " + std::to_string(least) + " to " +
                                std::to_string(most));
  }
  return number;
}

// The first of two variables that is set, and its name.
std::pair<std::string, std::string> first_of(const char* name, const char* in_slurm) {
  if (const auto value = variable(name)) return {name, *value};
  if (in_slurm != nullptr && variable("SLURM_PROCID")) {
    if (const auto value = variable(in_slurm)) return {in_slurm, *value};
  }
  throw usage_error("--distributed", std::string(name) + " is not set", kHowToStart);
}

// "node03" of "node[03-05,9],other7".
std::string first_host(const std::string& list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const size_t begin = bracket + 1;
  return list.substr(0, bracket) + list.substr(begin, list.find_first_of("-,]", begin) - begin);
}

}  // namespace

Launch launch_from_environment() {
  Launch launch;
  const auto [size_name, size] = first_of("WORLD_SIZE", "SLURM_NTASKS");
  launch.size = static_cast<int>(number_in(size_name, size, 1, kMostProcesses));
  const auto [rank_name, rank] = first_of("RANK", "SLURM_PROCID");
  launch.rank = static_cast<int>(number_in(rank_name, rank, 0, kMostProcesses));
  if (launch.rank >= launch.size) {
    throw usage_error(rank_name, rank + " is no rank of " + size_name + "=" + size + " processes",
                      "ranks are 0 to " + std::to_string(launch.size - 1));
  }
  const auto [address_name, address] = first_of("MASTER_ADDR", "SLURM_STEP_NODELIST");
  launch.address = address_name == "MASTER_ADDR" ? address : first_host(address);
  const auto [port_name, port] = first_of("MASTER_PORT", "SLURM_JOB_ID");
  if (port_name == "MASTER_PORT") {
    launch.port = static_cast<uint16_t>(number_in(port_name, port, 1, 65'535));
  } else {
    launch.port = static_cast<uint16_t>(kFirstPort + number_in(port_name, port, 0, INT64_MAX) % kPorts);
  }
  launch.launcher_keeps_store = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  launch.generation = variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
  return launch;
}

}  // namespace ptq
