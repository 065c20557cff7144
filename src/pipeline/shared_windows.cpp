#include "pipeline/shared_windows.h"

#include <ATen/Version.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <span>

#include "pipeline/run_identity.h"
#include "ptq/base/error.h"
#include "ptq/base/hash.h"
#include "ptq/base/output.h"

namespace ptq {
namespace {

// What the first process has to do beside its lanes, moving and measuring what is held out, in lanes.
constexpr int64_t kHeldOutLanes = 2;
constexpr int64_t kPieceBytes = int64_t{1} << 26;  // of hidden states that are sent at a time

// Lanes are dealt out in equal parts, of which the first process's is short of kHeldOutLanes.
int64_t first_lane(int rank, int size) {
  constexpr int64_t kAll = LaneSum::kLanes + kHeldOutLanes;
  return std::clamp<int64_t>(kAll * rank / size - kHeldOutLanes, 0, LaneSum::kLanes);
}

// The window with which a lane begins.
int64_t lane_begin(int64_t lane, const Batches& batches, int64_t length) {
  const int64_t batch = (lane * batches.count + LaneSum::kLanes - 1) / LaneSum::kLanes;
  return std::min(batches.windows, batch * windows_per_batch(length));
}

int64_t windows_in_piece(const Tensor& states) {
  const int64_t bytes = std::max<int64_t>(1, states.numel() / std::max<int64_t>(1, states.size(0)) * 4);
  return std::max<int64_t>(1, kPieceBytes / bytes);
}

// In pieces, and an empty parcel at the end.
void send_pieces(const Tensor& states, int to, Processes& processes) {
  if (states.size(0) > 0) {
    for (const Tensor& piece : states.split(windows_in_piece(states))) processes.send({{piece}, ""}, to);
  }
  processes.send({}, to);
}

template <typename Take>
void receive_pieces(int from, Processes& processes, const Take& take) {
  for (Parcel parcel = processes.receive(from); !parcel.tensors.empty(); parcel = processes.receive(from))
    take(parcel.tensors.front());
}

WindowShare share_of(const CalibrationWindows& windows, int rank, const Processes& processes) {
  return {windows.split, windows.ids.size(0), windows.ids.size(1), rank, processes.size()};
}

// The first sends the others their windows of `all`, and keeps `own`; they return what they got.
Tensor exchanged(const Stream& all, const Tensor& own, const CalibrationWindows& windows, int64_t d_model,
                 Processes& processes) {
  if (processes.is_first()) {
    for (int rank = 1; rank < processes.size(); ++rank)
      send_pieces(share_of(windows, rank, processes).calibrated_of(all.hidden()), rank, processes);
    return own;
  }
  const int64_t expected = share_of(windows, processes.rank(), processes).split().calibrated;
  const Tensor hidden = at::empty({expected, windows.ids.size(1), d_model});
  int64_t begin = 0;
  receive_pieces(0, processes, [&](const Tensor& piece) {
    hidden.slice(0, begin, begin + piece.size(0)).copy_(piece);
    begin += piece.size(0);
  });
  TORCH_CHECK(begin == expected, "of ", expected, " windows ", begin, " arrived");
  return hidden;
}

// "GenuineIntel", or the maker's number: libtorch chooses its matrix products by it.
std::string processor_maker() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("vendor_id") && !line.starts_with("CPU implementer")) continue;
    const size_t colon = line.find(": ");
    return colon == std::string::npos ? line : line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

WindowShare::WindowShare(const WindowSplit& all, int64_t windows, int64_t length, int rank, int size)
    : all_(all), length_(length), begin_(0), end_(all.calibrated), is_first_(rank == 0) {
  if (size == 1) return;
  // One window, or windows that are measured on only.
  const bool for_both = all.calibrated == windows;
  has_all_ = for_both && is_first_;
  const Batches batches = Batches::of(all.calibrated, length);
  const auto begin_of = [&](int process) {
    if (process == 0) return int64_t{0};
    return for_both ? all.calibrated : lane_begin(first_lane(process, size), batches, length);
  };
  begin_ = begin_of(rank);
  end_ = rank + 1 == size ? all.calibrated : begin_of(rank + 1);
  if (!for_both) lanes_ = first_lane(rank + 1, size) - first_lane(rank, size);
}

WindowSplit WindowShare::split() const {
  return {end_ - begin_, is_first_ ? all_.held_out : 0};
}

Batches WindowShare::batches() const {
  Batches batches = Batches::of(all_.calibrated, length_);
  // A process without windows has its place too.
  batches.first = begin_ == all_.calibrated ? batches.count : begin_ / windows_per_batch(length_);
  return batches;
}

Tensor WindowShare::of(const Tensor& all) const {
  const Tensor calibrated = all.slice(0, begin_, end_);
  if (has_all_) return all;
  if (!is_first_) return calibrated.clone();
  return at::cat({calibrated, all.slice(0, all_.calibrated)});
}

void tell_windows(CalibrationWindows& windows, int64_t& finished, Processes& processes) {
  if (processes.is_alone()) return;
  Parcel parcel;
  parcel.add(std::vector<int64_t>{finished, windows.split.calibrated, windows.split.held_out});
  parcel.add(windows.ids);
  processes.broadcast(parcel);
  ParcelReader reader(parcel);
  const std::vector<int64_t> numbers = reader.integers();
  finished = numbers.at(0);
  windows.split = {numbers.at(1), numbers.at(2)};
  windows.ids = reader.tensor();
}

void scatter(Stream& states, const CalibrationWindows& windows, int64_t d_model, Processes& processes) {
  if (processes.is_alone()) return;
  const WindowShare own = share_of(windows, processes.rank(), processes);
  const Tensor kept = processes.is_first() ? own.of(states.hidden()).clone() : Tensor();
  states = Stream(exchanged(states, kept, windows, d_model, processes), own.split());
}

void scatter_calibrated(Stream& states, const CalibrationWindows& windows, int64_t d_model,
                        Processes& processes) {
  if (processes.is_alone()) return;
  const WindowShare own = share_of(windows, processes.rank(), processes);
  const Tensor kept = processes.is_first() ? own.calibrated_of(states.hidden()).clone() : Tensor();
  states = Stream(exchanged(states, kept, windows, d_model, processes),
                  WindowSplit::measured_on_calibrated(own.split().calibrated));
}

std::string save_all(Stream& states, const std::string& path, Processes& processes) {
  if (processes.is_alone()) return states.save(path);
  ::unlink(path.c_str());  // of a run that was killed before its state named it
  OutputFile file(path);
  Sha256 hash;
  const auto write = [&](const Tensor& piece) {
    const Tensor dense = piece.cpu().contiguous();
    const std::span bytes(static_cast<const std::byte*>(dense.const_data_ptr()), dense.nbytes());
    file.write(bytes);
    hash.update(bytes);
  };
  const int64_t own = states.calibrated().size(0);
  write(states.calibrated());
  for (int rank = 1; rank < processes.size(); ++rank) receive_pieces(rank, processes, write);
  if (own < states.windows()) write(states.hidden().slice(0, own));
  file.close();
  return hash.hex();
}

void send_to_first(const Stream& states, Processes& processes) {
  send_pieces(states.hidden(), 0, processes);
}

void expect_same_run(const Report& report, const std::string& device, uint64_t seed, Processes& processes) {
  if (processes.is_alone()) return;
  const Json own = {{"program", report.program},
                    {"source", report.source},
                    {"recipe", report.recipe},
                    {"seed", seed},
                    {"device", device},
                    {"processor", {{"maker", processor_maker()}, {"libtorch", at::get_cpu_capability()}}}};
  Parcel parcel;
  parcel.text = own.dump();
  processes.broadcast(parcel);
  const std::string difference = identity_difference(parse_json(parcel.text, "rank 0"), own);
  if (difference.empty()) return;
  throw usage_error("--distributed",
                    "this process is not like rank 0, and would make other numbers: " + difference,
                    "the same program, options, threads and kind of processor for all");
}

}  // namespace ptq
