// The processes of `quantize bench`: one for each thing that is measured, so that a model's memory is its own
// and all can be measured in turns.
#pragma once

#include <functional>
#include <string>

#include "ptq/base/json.h"

namespace ptq {

// What a process measures.
struct BenchSubject {
  Json about;                     // known before the first repeat
  std::function<Json()> measure;  // one repeat
};

class BenchWorker {
 public:
  // Forks, and in the child makes the subject. Returns when it is made. `name` is for errors. Throws the
  // Error that the child had. REQUIRES: this process has one thread.
  BenchWorker(const std::string& name, const std::function<BenchSubject()>& make);
  // Ends the child.
  ~BenchWorker();
  BenchWorker(const BenchWorker&) = delete;
  BenchWorker& operator=(const BenchWorker&) = delete;

  const Json& about() const { return about_; }
  // One repeat in the child. Throws the Error that it had, or that it ended.
  Json measure();

 private:
  Json receive();

  std::string name_;
  int socket_ = -1;
  int process_ = -1;
  std::string received_;
  Json about_;
};

}  // namespace ptq
