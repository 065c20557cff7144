// What an exception means for the user.
#pragma once

#include "ptq/base/error.h"

namespace ptq {

// Of the exception that is being handled: itself if it is an Error, else one that says what it stands for.
Error failure_of_exception();

}  // namespace ptq
