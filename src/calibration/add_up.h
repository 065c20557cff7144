// Sums over the windows of several processes.
#pragma once

#include <map>
#include <string>

#include "ptq/comm/processes.h"

namespace ptq {

// Adds up the pieces of a sum that the processes have, in the order of their windows, which is that of
// ranks. Afterwards each has the whole. `Sums` has the functions of SiteSums. The sum goes from process
// to process, so that none ever holds more than two of it, and each but the last sends it once.
template <typename Sums>
void add_up(Processes& processes, std::map<std::string, Sums>& all) {
  if (processes.is_alone()) return;
  const int rank = processes.rank(), last = processes.size() - 1;
  for (auto& [name, own] : all) {
    if (rank > 0) own.put_behind(processes.receive(rank - 1));
    if (rank < last) processes.send(own.pack(), rank + 1);
  }
  for (auto& [name, own] : all) {
    Parcel whole;
    if (rank == last) whole = own.pack();
    processes.broadcast(whole, last);
    if (rank != last) own.unpack(whole);
  }
}

}  // namespace ptq
