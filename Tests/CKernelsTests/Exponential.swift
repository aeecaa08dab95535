import Glibc

func exponential(_ x: Double) -> Double { exp(x) }
