// Text inside markup.
#pragma once

#include <string>
#include <string_view>

namespace ptq {

// For element content and for attributes in double quotes, of XML 1.0 and of HTML: & < > " ' become
// references, characters that XML does not have (controls, U+FFFE, U+FFFF) a question mark.
// REQUIRES: valid UTF-8.
std::string escape_markup(std::string_view text);

}  // namespace ptq
