"""Every accepted call is applied. This package journals sync calls and repairs, and only it writes records."""
