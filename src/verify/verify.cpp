#include "ptq/verify/verify.h"

#include <filesystem>

#include "ptq/artifact/open_model.h"
#include "verify/parts.h"

namespace ptq {

Verification verify_artifact(const std::string& directory, const std::string& source,
                             const CheckpointOptions& source_options) {
  std::error_code failed;
  if (!std::filesystem::is_directory(directory, failed)) {
    throw Error(directory, "is not a directory", "the directory that a run has written");
  }
  // A source that cannot be opened is known before the work begins.
  if (!source.empty()) open_checkpoint(source, source_options);
  Subject subject;
  subject.directory = directory;
  check_files(subject);
  read_documents(subject);
  read_weight_files(subject);
  const std::optional<Listing> listing = check_contents(subject);
  check_report(subject, listing);
  if (!source.empty() && listing) check_source(subject, *listing, source, source_options);
  subject.counts.findings = subject.findings.list();
  return subject.counts;
}

}  // namespace ptq
