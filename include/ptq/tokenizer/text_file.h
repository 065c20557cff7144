// Text documents from files.
#pragma once

#include <string>
#include <vector>

namespace ptq {

// The documents in `path`. A file whose name ends in .jsonl holds one JSON object a line with the string
// field "text"; other fields are ignored and blank lines skipped. Any other file is one document, byte for
// byte. Throws Error, naming the line, for a line that is not such an object, and for a file of over 2 GiB.
std::vector<std::string> read_documents(const std::string& path);

}  // namespace ptq
