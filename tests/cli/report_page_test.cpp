// quantize report: text, JSON and the HTML page of a real run.
#include "cli/cli.h"

namespace ptq {
namespace {

using ReportPage = Cli;

TEST_F(ReportPage, TextIsTheSummaryAndATableOfKinds) {
  const std::string printed = quantize({"--method", "rtn", "--bits", "w4a16"}, "q").out;
  const std::string text = run_well({"report", "q"}).out;
  // What the run printed, but for the directory in its first line.
  EXPECT_NE(text.find(printed.substr(printed.find('\n'))), std::string::npos) << text;
  EXPECT_NE(text.find("mixer.in_proj"), std::string::npos) << text;
  EXPECT_EQ(run_json({"report", "q/report.json"}), report("q"));
}

TEST_F(ReportPage, HtmlIsWrittenOnceAndReplacedWithForce) {
  quantize({"--method", "quamba"}, "q");
  EXPECT_EQ(run_well({"report", "q", "--html", "q.html"}).out.find("wrote q.html, "), 0U);
  const std::string html = directory_.read("q.html");
  for (const char* part : {"<!DOCTYPE html>", "</html>", "backbone.layers.3.mixer.out_proj: output SQNR",
                           "ssm.output", "prefers-color-scheme: dark", "Where the error comes from"})
    EXPECT_NE(html.find(part), std::string::npos) << part;
  EXPECT_EQ(html.find("http"), std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  expect_error({"report", "q", "--html", "q.html"}, 1, {"q.html: already exists", "--force"});
  EXPECT_EQ(run_json({"report", "q", "--html", "q.html", "--force"})["bytes"], html.size());
  EXPECT_EQ(directory_.read("q.html"), html);
  EXPECT_EQ(directory_.list(), (Words{"q", "q.html"}));
}

TEST_F(ReportPage, HtmlIsXmlToo) {
  quantize({"--method", "quamba"}, "q");
  run_well({"report", "q", "--html", "q.html"});
  directory_.write("junit.py", "import sys, xml.dom.minidom\nxml.dom.minidom.parse(sys.argv[1])\n");
  if (testing::run_process({"/usr/bin/env", "python3", "-c", "pass"}).exit_code != 0)
    GTEST_SKIP() << "python3 not found";
  const ProcessResult parsed =
      testing::run_process({"/usr/bin/env", "python3", directory_ / "junit.py", directory_ / "q.html"});
  EXPECT_EQ(parsed.exit_code, 0) << parsed.err;
  run({"check", "q", "--min-sqnr-db", "99", "--require", "/a<&\" <= 1", "--junit", "j.xml"});
  const ProcessResult junit =
      testing::run_process({"/usr/bin/env", "python3", directory_ / "junit.py", directory_ / "j.xml"});
  EXPECT_EQ(junit.exit_code, 0) << junit.err;
}

TEST_F(ReportPage, WrongInputsAreErrors) {
  expect_error({"report"}, 2, {"REPORT"});
  expect_error({"report", "none"}, 1, {"none"});
  directory_.write("r.json", R"({"schema_version": 3})");
  expect_error({"report", "r.json", "--html", "r.html"}, 1, {"schema version 3"});
  expect_error({"report", "r.json", "--html", "none/r.html"}, 1, {"none is not a directory"});
}

}  // namespace
}  // namespace ptq
