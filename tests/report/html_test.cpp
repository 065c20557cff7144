#include "ptq/report/html.h"

#include <gtest/gtest.h>

#include "report/arrange.h"
#include "report/plot.h"
#include "report/sample_report.h"

namespace ptq {
namespace {

std::string page(const Report& report) {
  return html_page(parse_report(to_json(report), "r"));
}

// The first tag that is not closed in order, or "". Comments and CDATA do not occur.
std::string unbalanced_tag(const std::string& html) {
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const size_t end = html.find('>', at);
    if (end == std::string::npos) return html.substr(at);
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.starts_with("!") || tag.ends_with("/")) continue;
    if (!tag.starts_with("/")) {
      open.push_back(tag.substr(0, tag.find(' ')));
      continue;
    }
    if (open.empty() || open.back() != tag.substr(1)) return tag;
    open.pop_back();
  }
  return open.empty() ? "" : open.back();
}

size_t count(const std::string& text, const std::string& word) {
  size_t times = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++times;
  return times;
}

// A transformer of `blocks` blocks with 7 linears and 2 sites each.
Report large_report(int64_t blocks) {
  Report report = full_report();
  report.layers.clear();
  report.sites.clear();
  report.blocks.clear();
  for (int64_t i = 0; i < blocks; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    for (const char* kind : {"attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down"}) {
      const double noise = 0.001 * static_cast<double>(i + 1);
      report.layers.push_back(
          {prefix + kind, "linear", {4, 4}, 4, "channel", std::nullopt, 18.0, 20.0 + noise, noise});
    }
    for (const char* site : {"sites.attn.q", "sites.down.input"}) {
      SiteRow row;
      row.name = prefix + site;
      row.quantizer = "dynamic";
      row.peak_before = 100;
      row.peak_after = 2;
      report.sites.push_back(row);
    }
    report.blocks.push_back({i, 20.0, 0.1, 0.001});
  }
  return report;
}

TEST(Html, PageIsBalancedAndLoadsNothing) {
  for (const Report& report : {full_report(), large_report(30), Report{}}) {
    const std::string html = page(report);
    EXPECT_EQ(unbalanced_tag(html), "");
    for (const char* word : {"http", "<script", "src=", "href=", "url(", "@import", "nan", "inf\""})
      EXPECT_EQ(html.find(word), std::string::npos) << word;
  }
}

TEST(Html, EveryLayerIsAMarkWithATooltip) {
  const std::string html = page(large_report(30));
  for (const char* name : {"model.layers.0.attn.q", "model.layers.29.mlp.down"})
    EXPECT_GE(count(html, std::string("<title>") + name + ": output SQNR"), 2U) << name;
  EXPECT_EQ(count(html, "<h3>mlp.down</h3>"), 1U);
  EXPECT_EQ(count(html, "<h3>down.input</h3>"), 1U);
  EXPECT_EQ(count(html, "class=\"cell\""), 210U);
  EXPECT_EQ(count(html, "class=\"before\""), 60U);
}

TEST(Html, TextOfTheReportIsEscaped) {
  Report report = large_report(1);
  const std::string evil = "<b onclick=\"x\">&'";
  report.layers[0].name = report.layers[0].role = report.sites[0].name = evil;
  report.layers[1].name = "model.layers.0." + evil;
  report.layers[1].correction.emplace(CorrectionRow{1, evil, {}, {}});
  report.sites[1].name = "model.layers.0.sites." + evil;
  report.sites[1].transform = evil;
  report.fallbacks = {{evil, evil, evil}};
  report.decisions = {{evil, evil, evil}};
  report.loads_in = {{evil, evil}};
  report.warnings = {evil};
  report.quality->text = evil;
  report.output_files = {{evil, 1}};
  report.time_ms = {{evil, 1}};
  report.source["name"] = report.source["architecture"] = report.program["git"] = evil;
  report.source["files"] = {{evil, evil}};
  report.recipe["method"] = report.calibration["source"] = evil;
  report.recipe["steps"] = Json::array({{{"step", evil}, {evil, evil}}});
  report.recipe["skip"] = {evil};
  const std::string html = page(report);
  EXPECT_EQ(html.find("<b "), std::string::npos);
  EXPECT_GE(count(html, "&lt;b onclick=&quot;x&quot;&gt;&amp;&#39;"), 15U);
  EXPECT_EQ(unbalanced_tag(html), "");
}

TEST(Html, WorstLayersComeFirstWithTheirNumbersInPlace) {
  const std::string html = page(full_report());
  EXPECT_NE(
      html.find("<td class=\"wrap\">l.<wbr/>out</td><td>10.0</td><td>75.00 %</td><td>30.0</td><td>4</td>"),
      std::string::npos);
}

TEST(Html, CorrectionsAreShownIfThereAreAny) {
  EXPECT_EQ(page(full_report()).find("Low-rank"), std::string::npos);
  Report report = full_report();
  report.layers[0].correction.emplace(CorrectionRow{32, "exact", 4.0, 1.0});
  const std::string html = page(report);
  EXPECT_NE(html.find("<td class=\"text\">exact</td><td>32</td><td>4</td><td>1</td><td>75.0 %</td>"),
            std::string::npos);
}

TEST(Html, HostileNumbersStayInsideThePage) {
  Report report = large_report(3);
  report.layers[0].output_sqnr_db = 1e300;
  report.layers[1].output_sqnr_db = -1e300;
  report.layers[2].name = "model.layers.999999999.attn.q";
  report.layers[3].name = "model.layers.99999999999999999999.attn.q";
  report.sites[0].peak_before = 1e300;
  report.sites[1].peak_after = 1e-300;
  report.blocks[0].index = 9'000'000'000'000'000;
  const std::string html = page(report);
  EXPECT_EQ(unbalanced_tag(html), "");
  EXPECT_LT(html.size(), 200'000U);
}

TEST(Html, ThousandsOfKindsAreCountedNotDrawn) {
  Report report = full_report();
  report.layers.clear();
  for (int i = 0; i < 500; ++i)
    report.layers.push_back({"m.0.k" + std::string(1, static_cast<char>('a' + i % 26)) +
                                 std::string(static_cast<size_t>(i / 26), 'x'),
                             "linear",
                             {1},
                             4,
                             "tensor",
                             std::nullopt,
                             1.0,
                             2.0,
                             0.1});
  const std::string html = page(report);
  EXPECT_EQ(count(html, "460 more kinds of layers are in the report."), 3U);
  EXPECT_LT(html.size(), 100'000U);
}

TEST(Arrange, NamesGiveKindAndBlock) {
  const auto place = [](const std::string& name) {
    const Place found = place_of(name);
    return found.kind + " " + (found.block ? std::to_string(*found.block) : "-");
  };
  EXPECT_EQ(place("model.layers.3.self_attn.q_proj"), "self_attn.q_proj 3");
  EXPECT_EQ(place("backbone.layers.11.mixer.conv1d.weight"), "mixer.conv1d 11");
  EXPECT_EQ(place("backbone.layers.2.mixer.sites.ssm.x"), "ssm.x 2");
  EXPECT_EQ(place("model.layers.3.experts.17.w1"), "experts.*.w1 3");
  EXPECT_EQ(place("lm_head"), "lm_head -");
  EXPECT_EQ(place("a.7"), "a.7 -");
  EXPECT_EQ(place(""), " -");
}

TEST(Plot, AxesHaveRoundTicksThatCoverTheValues) {
  const Axis axis = linear_axis({12.3, 22.9});
  EXPECT_EQ(axis.low, 10);
  EXPECT_EQ(axis.high, 25);
  EXPECT_EQ(axis.ticks.size(), 4U);
  EXPECT_EQ(axis.ticks[1].second, "15");
  const Axis equal = linear_axis({5, 5});
  EXPECT_GT(equal.high, equal.low);
  EXPECT_LE(linear_axis({-1e300, 1e300}).ticks.size(), 7U);
  const Axis decades = decade_axis({-0.6, 1.5});
  EXPECT_EQ(decades.ticks.front().second, "0.1");
  EXPECT_EQ(decades.ticks.back().second, "100");
  EXPECT_LE(decade_axis({-300, 300}).ticks.size(), 7U);
  EXPECT_EQ(axis.fraction(-1e9), 0);
}

}  // namespace
}  // namespace ptq
