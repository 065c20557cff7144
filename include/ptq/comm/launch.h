// What a launcher tells a process about the run that it is part of.
#pragma once

#include <cstdint>
#include <string>

namespace ptq {

struct Launch {
  int rank = 0;
  int size = 1;         // processes of the run
  std::string address;  // where rank 0 is reached
  uint16_t port = 0;
  // torchrun keeps the store itself, and starts a run anew after a failure.
  bool launcher_keeps_store = false;
  std::string generation = "0";
};

// From RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them, or a person. Those that are
// missing in a step of SLURM come from SLURM_PROCID, SLURM_NTASKS, the first of SLURM_STEP_NODELIST and the
// number of the job. Throws a usage Error for what is missing, no number, or outside of its range.
Launch launch_from_environment();

}  // namespace ptq
