// bin/quantize of an installation: finds libtorch, and starts the program with it.
//
// libtorch has no fixed place: mostly it lies in a Python environment, where pip put it. The program is
// linked against it and could not say what is missing, so this one, which is not, looks first. Nothing of
// Python runs.
//
// An installation is bin/quantize (this), lib/quantize/quantize (the program), share/. libtorch is the first
//   that $PTQ_TORCH_ROOT names;
//   in lib/quantize/, installed with the program;
//   that lib/quantize/torch-root names: `cmake --install` writes it;
//   in a torch package of the version that the program was built with: of this environment, of the one that
//   it is layered on, of $VIRTUAL_ENV, $CONDA_PREFIX, the user, and the system. The binary interface of
//   libtorch changes from one minor version to the next.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

constexpr const char* kVersion = PTQ_TORCH_VERSION;  // "2.13"
constexpr const char* kLibrary = "libtorch_cpu.so";

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  std::exit(1);
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; lines.size() < 1000 && std::getline(file, line);) lines.push_back(line);
  return lines;
}

// "2.13.0+cpu" of a folder that holds lib/: what its version.py says (a package), or build-version (an
// archive of libtorch alone). Empty if neither is there.
std::string version_of(const fs::path& root) {
  for (const std::string& line : lines_of(root / "version.py")) {
    const size_t begin = line.find('\''), end = line.rfind('\'');
    if (line.starts_with("__version__ = ") && begin < end) return line.substr(begin + 1, end - begin - 1);
  }
  const std::vector<std::string> lines = lines_of(root / "build-version");
  return lines.empty() ? "" : lines.front();
}

bool fits(const std::string& version) {
  return version == kVersion || version.starts_with(std::string(kVersion) + ".");
}

// The torch packages of the Pythons below a prefix such as /usr/local.
void add_packages(const fs::path& prefix, std::vector<fs::path>& roots) {
  if (prefix.empty()) return;
  for (const char* const lib : {"lib", "lib64", "local/lib"}) {
    std::error_code ignored;
    std::vector<fs::path> pythons;
    for (const fs::directory_entry& entry : fs::directory_iterator(prefix / lib, ignored)) {
      if (entry.path().filename().string().starts_with("python3")) pythons.push_back(entry.path());
    }
    std::sort(pythons.begin(), pythons.end());
    for (const fs::path& python : pythons) {
      for (const char* const packages : {"site-packages", "dist-packages"}) {
        if (is_there(python / packages / "torch/lib" / kLibrary))
          roots.push_back(python / packages / "torch");
      }
    }
  }
}

// The prefix of the Python that a virtual environment sees the packages of; empty if it sees its own only.
fs::path layered_on(const fs::path& environment) {
  fs::path prefix;
  bool sees = false;
  for (const std::string& line : lines_of(environment / "pyvenv.cfg")) {
    if (line.starts_with("home = ")) prefix = fs::path(line.substr(7)).parent_path();
    sees = sees || line == "include-system-site-packages = true";
  }
  return sees ? prefix : fs::path();
}

std::vector<fs::path> torch_packages(const fs::path& prefix) {
  std::vector<fs::path> roots;
  // `pip install --target DIR` puts programs into DIR/bin and packages into DIR.
  if (is_there(prefix / "torch/lib" / kLibrary)) roots.push_back(prefix / "torch");
  const std::string home = variable("HOME");
  for (const fs::path& each :
       {prefix, layered_on(prefix), fs::path(variable("VIRTUAL_ENV")), fs::path(variable("CONDA_PREFIX")),
        home.empty() ? fs::path() : fs::path(home) / ".local", fs::path("/usr/local"), fs::path("/usr")}) {
    add_packages(each, roots);
  }
  return roots;
}

// The lib folder of the libtorch to use; empty if the program has its own beside it.
fs::path torch_libraries(const fs::path& prefix) {
  const std::string wanted = std::string("this program needs libtorch ") + kVersion;
  const std::string remedy = std::string("\n  try: pip install 'torch==") + kVersion +
                             ".*', or PTQ_TORCH_ROOT=DIR, a folder that holds lib/" + kLibrary +
                             " of that version";
  if (const fs::path root = variable("PTQ_TORCH_ROOT"); !root.empty()) {
    const std::string version = version_of(root);
    if (!is_there(root / "lib" / kLibrary))
      fail("PTQ_TORCH_ROOT: " + root.string() + " holds no lib/" + kLibrary + "; " + wanted + remedy);
    if (!version.empty() && !fits(version))
      fail("PTQ_TORCH_ROOT: " + root.string() + " is version " + version + "; " + wanted + remedy);
    return fs::absolute(root) / "lib";
  }
  if (is_there(prefix / "lib/quantize" / kLibrary)) return {};
  const std::vector<std::string> built_with = lines_of(prefix / "lib/quantize/torch-root");
  if (!built_with.empty() && is_there(fs::path(built_with.front()) / "lib" / kLibrary))
    return built_with.front() + "/lib";
  std::string found;
  for (const fs::path& root : torch_packages(prefix)) {
    const std::string version = version_of(root);
    if (fits(version)) return root / "lib";
    found += "\n  found: version " + (version.empty() ? "unknown" : version) + " in " + root.string();
  }
  fail(wanted + (found.empty() ? ", and no torch package was found" : ", and only others were found") +
       found + remedy);
}

}  // namespace

int main(int, char** argv) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) fail("/proc/self/exe: " + error.message() + "\n  try: mount /proc");
  const fs::path prefix = self.parent_path().parent_path(), program = prefix / "lib/quantize/quantize";
  if (!is_there(program)) fail(program.string() + ": is missing\n  try: install quantize again");
  if (const fs::path libraries = torch_libraries(prefix); !libraries.empty()) {
    const std::string others = variable("LD_LIBRARY_PATH");
    ::setenv("LD_LIBRARY_PATH", (libraries.string() + (others.empty() ? "" : ":" + others)).c_str(), 1);
  }
  ::execv(program.c_str(), argv);
  fail(program.string() + ": " + std::strerror(errno));
}
