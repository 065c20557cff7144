// What lies beside a model's weights and belongs to the model all the same: tokenizer, templates, licence.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/base/output.h"

namespace ptq {

// The files of `source_directory` that an output gets copies of, name -> path: those of the tokenizer, the
// chat templates (also `additional_chat_templates/NAME.jinja`), generation_config.json, licences and notices.
// `tokenizer_path`, if it is not empty, stands for tokenizer.json. Left out, each with a warning: a file over
// 256 MB, a dangling link, and a link out of the folder to a file of another name (a model's cache aside),
// which would put what is no part of the model into its output.
std::map<std::string, std::string> companion_files(const std::string& source_directory,
                                                   const std::string& tokenizer_path,
                                                   std::vector<std::string>& warnings);

// Copies them. Throws Error.
void copy_companions(const std::map<std::string, std::string>& files, OutputDirectory& output);

}  // namespace ptq
