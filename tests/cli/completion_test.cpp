// Completion as the shells do it, and the man page as troff reads it.
#include <algorithm>
#include <sstream>

#include "cli/cli.h"

namespace ptq {
namespace {

Words lines_of(const std::string& text) {
  Words lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

// As the man page spells it.
std::string troff(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '-' ? std::string("\\-") : std::string(1, c);
  return escaped;
}

class Completion : public Cli {
 protected:
  Completion() {
    directory_.write("a file.txt", "x");
    std::filesystem::create_directory(directory_ / "a directory");
  }
  ProcessResult shell(const Words& command) const {
    return testing::run_process(Words{"/usr/bin/env"} + command, {.directory = directory_.path()});
  }
  bool has(const std::string& program) const {
    return shell({"sh", "-c", "command -v " + program}).exit_code == 0;
  }
  // What bash offers for the last of the words.
  Words bash(const Words& words) const {
    std::string script = "source ./script\nCOMP_WORDS=(";
    for (const std::string& word : words) script += "'" + word + "' ";
    script += ")\nCOMP_CWORD=" + std::to_string(words.size() - 1) +
              "\n_quantize\n((${#COMPREPLY[@]})) && printf '%s\\n' \"${COMPREPLY[@]}\"\ntrue";
    write_script("bash");
    const ProcessResult result = shell({"bash", "--norc", "-uc", script});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return lines_of(result.out);
  }
  void write_script(const std::string& shell) const {
    if (!std::filesystem::exists(directory_ / "script")) {
      directory_.write("script", run_well({"completion", shell}).out);
    }
  }
  // "--method", ... of a command's help.
  Words long_options(const Words& command) const {
    Words options;
    for (const std::string& line : lines_of(run_well(command + Words{"--help"}).out)) {
      const size_t at = line.find("--");
      if (!line.starts_with("  -") || at > 5) continue;
      options.push_back(line.substr(at, line.find_first_of(" ,=", at) - at));
    }
    return options;
  }
  Words commands() const {
    const std::string help = run_well({"--help"}).out;
    Words names;
    for (const std::string& line : lines_of(
             help.substr(help.find("\nCommands"), help.find("\nExit codes") - help.find("\nCommands")))) {
      if (line.starts_with("  ")) names.push_back(line.substr(2, line.find(' ', 2) - 2));
    }
    return names;
  }
};

TEST_F(Completion, BashOffersCommandsOptionsAndValues) {
  EXPECT_EQ(bash({"quantize", "ev"}), Words{"eval"});
  EXPECT_EQ(bash({"quantize", "--meth"}), Words{"--method"});
  EXPECT_EQ(bash({"quantize", "--method", "qu"}), Words{"quamba"});
  EXPECT_EQ(bash({"quantize", "model.pt", "--method", "=", "du"}), Words{"duquant"});
  EXPECT_EQ(bash({"quantize", "--embedding", "="}), (Words{"float", "int8"}));
  EXPECT_EQ(bash({"quantize", "--bits", "w6"}), Words{"w6a6"});
  EXPECT_EQ(bash({"quantize", "--set", "quamba.perc"}), Words{"quamba.percentile="});
  EXPECT_EQ(bash({"quantize", "eval", "--ag"}), Words{"--against"});
  EXPECT_EQ(bash({"quantize", "eval", "--meth"}), Words{});
  EXPECT_EQ(bash({"quantize", "completion", "z"}), Words{"zsh"});
  EXPECT_EQ(bash({"quantize", "model.pt", "--samples", ""}), Words{});
}

TEST_F(Completion, BashOffersFilesWhereAFileStandsAndDirectoriesWhereOneDoes) {
  EXPECT_EQ(bash({"quantize", "--calib", "a "}), (Words{"a directory", "a file.txt"}));
  EXPECT_EQ(bash({"quantize", "-o", "a "}), Words{"a directory"});
  EXPECT_EQ(bash({"quantize", "eval", "a "}), (Words{"a directory", "a file.txt"}));
  EXPECT_EQ(bash({"quantize", "a "}), (Words{"a directory", "a file.txt"}));
  EXPECT_EQ(bash({"quantize", "list", "a "}), Words{});
}

TEST_F(Completion, BashAndTheManPageKnowEveryOptionOfEveryCommand) {
  const Words names = commands(), first = bash({"quantize", ""});
  const std::string page = run_well({"man"}).out;
  EXPECT_GT(names.size(), 5U);
  for (const std::string& name : names + Words{""}) {
    const Words command = name.empty() ? Words{} : Words{name};
    const Words offered = bash(Words{"quantize"} + command + Words{"--"});
    const Words options = long_options(command);
    EXPECT_GT(options.size(), 3U) << name;
    for (const std::string& option : options) {
      EXPECT_TRUE(std::binary_search(offered.begin(), offered.end(), option)) << name << " " << option;
      EXPECT_NE(page.find("\\fB" + troff(option) + "\\fR"), std::string::npos) << option;
    }
    EXPECT_TRUE(name.empty() || std::binary_search(first.begin(), first.end(), name)) << name;
    EXPECT_NE(page.find("\\fBquantize\\fR" + (name.empty() ? "" : " \\fB" + name + "\\fR")),
              std::string::npos);
  }
}

TEST_F(Completion, FishOffersCommandsOptionsAndValues) {
  if (!has("fish")) GTEST_SKIP() << "fish is not installed";
  write_script("fish");
  const auto fish = [this](const std::string& line) {
    const ProcessResult result = shell({"HOME=" + directory_.path(), "fish", "--no-config", "-c",
                                        "source ./script; complete -C '" + line + "'"});
    EXPECT_EQ(result.err, "");
    Words offered;
    for (const std::string& text : lines_of(result.out)) offered.push_back(text.substr(0, text.find('\t')));
    return offered;
  };
  EXPECT_EQ(fish("quantize --method qu"), Words{"quamba"});
  EXPECT_EQ(fish("quantize --meth"), Words{"--method"});
  EXPECT_EQ(fish("quantize eval --ag"), Words{"--against"});
  EXPECT_EQ(fish("quantize eval --meth"), Words{});
  EXPECT_EQ(fish("quantize completion z"), Words{"zsh"});
  EXPECT_EQ(fish("quantize gen"), Words{"generate"});
  EXPECT_EQ(fish("quantize --calib a\\ f"), Words{"a file.txt"});
}

TEST_F(Completion, ZshOffersCommandsOptionsAndValues) {
  if (!has("zsh")) GTEST_SKIP() << "zsh is not installed";
  write_script("zsh");
  // A terminal of zsh's own: completion works nowhere else. The line is printed, not run, by ^X.
  directory_.write("try", R"(
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; autoload -Uz compinit && compinit -u -D; source ./script; p() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N p; bindkey "^X" p; print ready'
while zpty -r z line && [[ $line != ready* ]]; do :; done
zpty -n -w z "$1"$'\t\x18'
while zpty -r z line && [[ $line != *'<'*'>'* ]]; do :; done
print -r -- "${${line#*<}%%>*}"
zpty -d z
)");
  const auto zsh = [this](const std::string& line) {
    const ProcessResult result = shell({"ZDOTDIR=" + directory_.path(), "zsh", "-f", "./try", line});
    EXPECT_EQ(result.err, "");
    return result.out;
  };
  EXPECT_EQ(zsh("quantize --method qu"), "quantize --method quamba \n");
  EXPECT_EQ(zsh("quantize --meth"), "quantize --method=\n");
  EXPECT_EQ(zsh("quantize eval --ag"), "quantize eval --against=\n");
  EXPECT_EQ(zsh("quantize eval --meth"), "quantize eval --meth\n");
  EXPECT_EQ(zsh("quantize completion z"), "quantize completion zsh \n");
  EXPECT_EQ(zsh("quantize gen"), "quantize generate \n");
  EXPECT_EQ(zsh("quantize --calib a\\ f"), "quantize --calib a\\ file.txt \n");
}

TEST_F(Completion, UnknownShellIsAUsageError) {
  expect_error({"completion", "bsh"}, 2, {"\"bsh\" is not a shell", "did you mean \"bash\""});
  expect_error({"completion"}, 2, {"SHELL"});
}

TEST_F(Completion, TroffFindsNothingWrongWithTheManPage) {
  if (!has("groff")) GTEST_SKIP() << "groff is not installed";
  directory_.write("quantize.1", run_well({"man"}).out);
  const ProcessResult result = shell({"groff", "-man", "-ww", "-z", "quantize.1"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
}

}  // namespace
}  // namespace ptq
