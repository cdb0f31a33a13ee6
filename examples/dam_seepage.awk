# Steady seepage through a dam of columns, each with its own conductivity (Dupuit):
# h^2 falls over a column by 2 q dx / K, q = (up^2 - down^2) / (2 sum of dx / K).
# Input: K [m/d] of a column per line. Output: q [m2/d], then h [m] behind each column.
{ k[NR] = $1; resistance += dx / $1 }
END {
    q = (up ^ 2 - down ^ 2) / (2 * resistance)
    printf "%.17g\n", q
    square = up ^ 2
    for (i = 1; i <= NR; i++) {
        square -= 2 * q * dx / k[i]
        printf "%.17g\n", sqrt(square)
    }
}
