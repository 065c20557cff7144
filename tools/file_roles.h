// What the words of a command line name: files that are read, and files that are written.
#pragma once

namespace CLI {
class App;
}

namespace ptq {

// Throws a usage Error, after parsing, for an option whose value
// is empty (but texts: an empty prompt is one), and for a file that is named in two roles of which one is to
// be written: the same file, by whatever path or link, or a file of a folder that is read.
void check_file_roles(const CLI::App& app);

}  // namespace ptq
