// The processes of one run: what they tell each other, how work is shared out among them, and how they all
// end if one of them cannot go on. One process is the trivial case.
//
// All processes take the same steps in the same order, and every call below is made by all of them alike. Who
// comes first to an exchange waits. Peers are processes of the same program and of the same person: what they
// send is not looked upon as hostile.
//
// A process that fails leaves its error in the store through which the run was joined; the others find it
// there. Each gives a sign of life there too, so that one that was killed, hangs or is cut off is named.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/comm/launch.h"
#include "ptq/comm/parcel.h"

namespace ptq {

class Connection;

class Processes {
 public:
  // One process.
  Processes();
  // Joins the run, and returns when all are there. `patience` in seconds: how long to wait for that, and
  // later for a sign of life from each. Throws Error if some do not come (and names them), if two have
  // one rank, if they disagree about their number, or if libtorch has no means for it.
  Processes(const Launch& launch, double patience);
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_alone() const { return size_ == 1; }
  // Of the process that owns the output, and measures.
  bool is_first() const { return rank_ == 0; }

  // All of the following throw Error if a process has failed or gone (with its rank and the cause), or if
  // this one was interrupted. They do nothing, or what is left of them, where there is one process.

  // Gives all the parcel of `from`.
  void broadcast(Parcel& parcel, int from = 0);
  void send(const Parcel& parcel, int to);
  Parcel receive(int from);
  // Whether `mine` is true in any.
  bool any(bool mine);

  // Work that falls into tasks: each is solved by one process, and what came of it is taken by all.
  //   costs  of the tasks, in any unit; the longest is given away first
  //   solve  does a task; is called in the order of tasks
  //   take   is called for every task, in order
  // With one process each task is taken before the next is solved.
  void share(const std::vector<double>& costs, const std::function<Parcel(size_t)>& solve,
             const std::function<void(size_t, const Parcel&)>& take);

  // This process cannot go on for `cause`. Tells the others, and throws what all of them say: the first
  // failure of the run, with the rank that it happened to. With one process that is `cause` itself.
  [[noreturn]] void fail(const Error& cause);
  // All have come to the end. Returns when they have; nothing may be called after it.
  void leave();

 private:
  int rank_ = 0, size_ = 1;
  std::unique_ptr<Connection> connection_;
};

// For whoever is not told of others.
Processes& one_process();

// Whom each task belongs to: the longest first, each to whoever has least to do, the lowest rank of equals.
std::vector<int> owners_of(const std::vector<double>& costs, int processes);

// True once an exchange was given up halfway: threads of libtorch then wait for what will not come, and only
// std::_Exit() ends the process.
bool exchange_was_abandoned();

}  // namespace ptq
