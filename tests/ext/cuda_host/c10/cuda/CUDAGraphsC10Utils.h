// Stood in for by wiring_driver.cpp.
